"""Evaluation of a method on a test set: predictions are made or read, scored, and kept clip by clip."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout, scoring
from rvm_jax.evaluation.layout import EvaluationClip
from rvm_jax.evaluation.methods import AnyMatte, Method, check, takes_ratio
from rvm_jax.evaluation.scoring import Frames, Scores, filled
from rvm_jax.host import prefetch
from rvm_jax.host.files import replacing
from rvm_jax.video.matting import PIXELS_AT_ONCE
from rvm_jax.video.picture_files import PNG_EFFORT

LONGEST_PART = 8
PIXELS_ON_CPU = 4_200_000
QUEUED = 2  # parts that are read while others are scored
PANELS = 4
"""Of a strip: input, true matte, predicted matte, error."""
STRIP_SIDE = 320
"""Of the pictures that are kept of a clip, at most."""


@dataclass(frozen=True)
class Settings:
    """How predictions are made and scored.

    Attributes:
        downsample_ratio: Of networks that take one; None for their own, which makes RVM's longest side 512.
        high_resolution: Score as the published HD figures were.
        save_predictions: Where to write what networks predict, or None.
    """

    downsample_ratio: float | None = None
    high_resolution: bool = False
    save_predictions: Path | None = None

    def __post_init__(self) -> None:
        if self.downsample_ratio is not None and not 0 < self.downsample_ratio <= 1:
            raise InputError(f"a down-sampling ratio of {self.downsample_ratio:g}: expected more than 0, and at most 1")


@dataclass(frozen=True)
class Scored:
    """A clip's scores by one method, and pictures of its worst and its median frame by MAD, and of its middle one.

    The scores are of the frames with truth, whose `numbers` are counted from 0.
    """

    clip: str
    dataset: str
    numbers: Sequence[int]
    scores: Scores
    worst: Path
    median: Path
    middle: Path


def evaluate(
    clips: Sequence[EvaluationClip],
    one: Method,
    out: Path,
    settings: Settings,
    progress: Callable[[int], None] = lambda frames: None,
) -> Iterator[Scored]:
    """The scores of every clip, in order. Those that are in `out` already, from the same files, are taken from there.

    `progress` is called with how many frames are done, now and then.
    """
    check(clips, one)
    mark = _fingerprint(one, settings)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for clip in clips:
            folder = out / "clips" / one.name / clip.dataset
            record = folder / f"{clip.name}.json"
            identity = hashlib.sha256(f"{mark}{_files(clip, one)}".encode()).hexdigest()
            pictures = [folder / f"{clip.name}_{kind}.png" for kind in ("worst", "median", "middle")]
            kept = json.loads(record.read_text()) if record.exists() else {}
            saved = _saved(clip, one, settings)
            where = str(settings.save_predictions) if saved else None
            # Files of these names may also be there from before, by other weights.
            there = not saved or (kept.get("saved") == where and all(path.exists() for path in saved))
            if kept.get("identity") != identity or not there or not all(picture.exists() for picture in pictures):
                record.unlink(missing_ok=True)  # which may speak of predictions that are replaced now
                scores, strips = _score(clip, one, settings, pool, progress)
                for path, strip in zip(pictures, strips, strict=True):
                    with replacing(path, overwrite=True) as partial_path:
                        strip.save(partial_path, "PNG")
                kept = {"identity": identity, "saved": where, "scores": scores}
                with replacing(record, overwrite=True) as partial_path:
                    partial_path.write_text(json.dumps(kept, allow_nan=False))
            else:
                progress(len(clip.pha))
            yield Scored(clip.name, clip.dataset, clip.numbers, kept["scores"], *pictures)


def _score(
    clip: EvaluationClip, one: Method, settings: Settings, pool: ThreadPoolExecutor, progress: Callable[[int], None]
) -> tuple[Scores, list[Image.Image]]:
    """A clip's scores, and the strips of the three frames that are kept."""
    strips: list[Image.Image] = []

    def predictions() -> Iterator[Frames]:
        predict = _read if one.predictions is not None else _infer
        for part, com in predict(clip, one, settings, pool):
            strips.extend(pool.map(strip, com, part.true_alpha, part.alpha))
            progress(len(part.alpha))
            yield part

    with prefetch.prefetched(predictions(), QUEUED) as parts:
        scores = scoring.score(parts, pool, high_resolution=settings.high_resolution)
    if clip.has_gaps:  # what changes between frames that are far apart is another metric
        del scores["dtssd"]
    order = np.argsort(scores["mad"], kind="stable")
    return scores, [strips[number] for number in (order[-1], order[len(order) // 2], len(order) // 2)]


def strip(com: np.ndarray, true_alpha: np.ndarray, alpha: np.ndarray) -> Image.Image:
    """A frame, its truth, what was predicted, and where it is wrong: red for too much, blue for too little."""
    height, width, _ = com.shape
    scale = min(1.0, STRIP_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    step = max(1, int(0.5 / scale))  # every pixel of a large frame would take longer than its scores
    com, true_alpha, alpha = (picture[::step, ::step] for picture in (com, true_alpha, alpha))
    wrong = (alpha - true_alpha)[..., 0]
    error = 1 - np.stack([np.maximum(-wrong, 0), np.abs(wrong), np.maximum(wrong, 0)], -1) * 4  # a quarter is full
    panels = [com, true_alpha.repeat(3, -1) * 255, alpha.repeat(3, -1) * 255, error.clip(0, 1) * 255]
    shown = [Image.fromarray(panel.round().astype(np.uint8)).resize(size) for panel in panels]
    whole = Image.new("RGB", (size[0] * len(shown), size[1]))
    for number, panel in enumerate(shown):
        whole.paste(panel, (size[0] * number, 0))
    return whole


def _read(
    clip: EvaluationClip, one: Method, settings: Settings, pool: ThreadPoolExecutor
) -> Iterator[tuple[Frames, np.ndarray]]:
    """Predictions from a folder, with their truth, and the composites."""
    assert one.predictions is not None
    pha, fgr = layout.predicted(one.predictions, clip)
    size = layout.size(clip)
    for names in _parts(list(clip.pha), size):
        com = _composites(clip, names, size, pool)
        truth, colors = _truth(clip, names, size, pool)
        alpha = _stacked(pool, layout.read_alpha, [pha[name] for name in names])
        foreground = _stacked(pool, layout.read_color, [fgr[name] for name in names]) if fgr else None
        for kind, found in (("pha", alpha), ("fgr", foreground)):
            if found is not None:
                _check_size(f"{one.predictions}/{clip.label}/{kind}", found, size)
        foreground = None if foreground is None else foreground.astype(np.float32) / 255
        yield Frames(alpha, truth, foreground, colors), com


def _infer(
    clip: EvaluationClip, one: Method, settings: Settings, pool: ThreadPoolExecutor
) -> Iterator[tuple[Frames, np.ndarray]]:
    """Predictions of a network that sees all frames, where their truth is known, with it, and the composites."""
    assert one.matte is not None
    matte, ratio = one.matte, settings.downsample_ratio
    state: Any = None
    length = 0
    size = layout.size(clip)
    for names in _parts(clip.frames, size):
        com = _composites(clip, names, size, pool)
        background = _backgrounds(clip, names, size, pool) if matte.needs else None
        if one.remembers:
            length = max(length, len(com))  # the last part is filled up, so that it needs no program of its own
            behind = None if background is None else filled(background, length)
            foreground, alpha, state = _predict(matte, filled(com, length), behind, state, ratio)
        else:
            each = [_predict(matte, frame[None], None, None, ratio) for frame in com]
            alpha = np.concatenate([found.alpha for found in each])
            foreground = np.concatenate([found.foreground for found in each if found.foreground is not None])
        alpha, foreground = alpha[: len(com)], None if foreground is None else foreground[: len(com)]
        for number, name in enumerate(names):
            if not all(np.isfinite(pictures[number]).all() for pictures in (foreground, alpha) if pictures is not None):
                raise InputError(
                    f"{one.name} predicts numbers that are not finite in frame {name} of {clip.label}: "
                    "give weights without such numbers, or --precision float32"
                )
        if settings.save_predictions is not None:
            _save(_folder(settings.save_predictions, clip, one), names, alpha, foreground, pool)
        known = [number for number, name in enumerate(names) if name in clip.pha]
        if known:
            truth, colors = _truth(clip, [names[number] for number in known], size, pool)
            foreground = None if foreground is None else foreground[known]
            yield Frames(alpha[known], truth, foreground, colors), com[known]


class _Predicted(NamedTuple):
    foreground: np.ndarray | None
    alpha: np.ndarray
    state: Any


def _predict(
    matte: AnyMatte, frames: np.ndarray, background: np.ndarray | None, state: Any, ratio: float | None
) -> _Predicted:
    """uint8 `[T, H, W, 3]` → foreground `[T, H, W, 3]`, if any, and alpha `[T, H, W, 1]`, in 0..1, and the state."""
    given: Any = {} if background is None else {"background": background[None]}
    found = matte(frames[None], state, ratio if takes_ratio(matte) else None, **given)
    foreground = None if found.foreground is None else np.asarray(found.foreground)[0]
    return _Predicted(foreground, np.asarray(found.alpha)[0], found.state)


def _backgrounds(
    clip: EvaluationClip, names: Sequence[str], size: tuple[int, int], pool: ThreadPoolExecutor
) -> np.ndarray:
    """Those of some frames, uint8 `[T, H, W, 3]`."""
    found = _stacked(pool, layout.read_color, [layout.background(clip, name) for name in names])
    _check_size(f"{clip.label}/bgr", found, size)
    return found


def _composites(
    clip: EvaluationClip, names: Sequence[str], size: tuple[int, int], pool: ThreadPoolExecutor
) -> np.ndarray:
    """What a method is given of some frames, uint8 `[T, H, W, 3]`; their true alpha in gray, if there is nothing."""
    if not clip.com:
        alpha = _stacked(pool, layout.read_alpha, [clip.pha[name] for name in names])
        return (alpha.repeat(3, -1) * 255).astype(np.uint8)
    com = _stacked(pool, layout.read_color, [clip.com[name] for name in names])
    _check_size(f"{clip.label}/com", com, size)
    return com


def _truth(
    clip: EvaluationClip, names: Sequence[str], size: tuple[int, int], pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray | None]:
    """True alpha and foreground of some frames, in 0..1."""
    alpha = _stacked(pool, layout.read_alpha, [clip.pha[name] for name in names])
    _check_size(f"{clip.label}/pha", alpha, size)
    if not clip.fgr:
        return alpha, None
    colors = _stacked(pool, layout.read_color, [clip.fgr[name] for name in names])
    _check_size(f"{clip.label}/fgr", colors, size)
    return alpha, colors.astype(np.float32) / 255


def _check_size(where: str, found: np.ndarray, size: tuple[int, int]) -> None:
    """Raise `InputError` unless pictures have the (height, width) of their clip's first true alpha."""
    if found.shape[1:3] != size:
        sizes = [f"{width}×{height}" for height, width in (found.shape[1:3], size)]
        raise InputError(f"{where} has {sizes[0]} pixels, the truth {sizes[1]}: expected one size in a clip")


def _stacked(pool: ThreadPoolExecutor, read: Callable[[Path], np.ndarray], paths: Sequence[Path]) -> np.ndarray:
    pictures = list(pool.map(read, paths))
    for (first, one), (second, other) in pairwise(zip(paths, pictures, strict=True)):
        if one.shape != other.shape:
            sizes = [f"{x.shape[1]}×{x.shape[0]}" for x in (one, other)]
            raise InputError(f"{first} has {sizes[0]} pixels and {second} has {sizes[1]}: expected one size in a clip")
    return np.stack(pictures)


def _save(
    folder: Path, names: Sequence[str], alpha: np.ndarray, foreground: np.ndarray | None, pool: ThreadPoolExecutor
) -> None:
    def write(kind: str, name: str, pixels: np.ndarray) -> None:
        with replacing(folder / kind / f"{name}.png", overwrite=True) as path:
            Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path, "PNG", compress_level=PNG_EFFORT)

    for kind, pictures in (("pha", alpha[..., 0]), ("fgr", foreground)):
        if pictures is not None:
            list(pool.map(partial(write, kind), names, pictures))


def _saved(clip: EvaluationClip, one: Method, settings: Settings) -> list[Path]:
    """The predictions of a clip that there are to be."""
    if settings.save_predictions is None or one.matte is None:
        return []
    folder = _folder(settings.save_predictions, clip, one)
    kinds = ("pha", "fgr") if one.tells_colors else ("pha",)
    return [folder / kind / f"{name}.png" for kind in kinds for name in clip.frames]


def _folder(predictions: Path, clip: EvaluationClip, one: Method) -> Path:
    return predictions / one.name / clip.dataset / clip.name


def part_length(size: tuple[int, int]) -> int:
    """How many frames of (height, width) are predicted at once, and scored at once by several threads."""
    pixels = PIXELS_ON_CPU if jax.default_backend() == "cpu" else PIXELS_AT_ONCE
    return max(1, min(LONGEST_PART, pixels // (size[0] * size[1])))


def _parts(names: Sequence[str], size: tuple[int, int]) -> Iterator[Sequence[str]]:
    length = part_length(size)
    return (names[first : first + length] for first in range(0, len(names), length))


def _fingerprint(one: Method, settings: Settings) -> str:
    """Identifies a method, and the way to score it."""
    how = f"definitions {scoring.DEFINITIONS}, high resolution {settings.high_resolution}"
    if one.matte is None:
        return f"predictions, {how}"
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(one.matte.variables):
        digest.update(np.asarray(leaf).tobytes())
    return f"{digest.hexdigest()} {[settings.downsample_ratio, one.remembers, one.matte.network]}, {how}"


def _files(clip: EvaluationClip, one: Method) -> list[tuple[str, int, int]]:
    """Changes when any file of a clip, or of its predictions, does."""
    paths = [*clip.com.values(), *clip.pha.values(), *clip.fgr.values()]
    if one.matte is not None and one.matte.needs:
        paths += clip.bgr.values()
    if one.predictions is not None:
        pha, fgr = layout.predicted(one.predictions, clip)
        paths += [*pha.values(), *fgr.values()]
    stats = [(path, path.stat()) for path in paths]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
