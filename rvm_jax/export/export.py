"""Networks for other runtimes, each run by its runtime and compared with JAX before it may stay on disk."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.export import parity, report, sample_clip
from rvm_jax.export.baselines.exporting import FORMATS as BASELINE_FORMATS
from rvm_jax.export.baselines.exporting import export_baseline
from rvm_jax.export.formats import FORMATS, ExportFormat
from rvm_jax.export.frame_size import FrameSize
from rvm_jax.export.report import TOLERANCES, report_path, table
from rvm_jax.host.buckets import local_path
from rvm_jax.host.files import replacing
from rvm_jax.host.paths import Location, is_url
from rvm_jax.matte import automatic_ratio, from_weights
from rvm_jax.model.network import SMALLEST_SIDE, check_frames
from rvm_jax.weights.files import Contents, contents_of, weights_of, whole_network
from rvm_jax.weights.in_buckets import weights_name
from rvm_jax.weights.names import baseline_family

__all__ = ["export", "report_path", "table"]

FRAMES = 5
DRAWN_SIZE = (216, 384)


def export(
    source: Location,
    target: str | os.PathLike[str] | None = None,
    to: str = "onnx",
    *,
    size: tuple[int, int] | None = None,
    downsample_ratio: float | None = None,
    precision: str = "float32",
    clip: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the network of a weight file or folder as `to`, one of `FORMATS`, if it agrees with JAX.

    Args:
      source: weights, as `rvm_jax.load` takes them.
      target: the file to write; by default named after `source`, in the current folder. A report goes beside it.
      to: "onnx", "torchscript", "stablehlo", "pth" or "safetensors".
      size: (height, width) of frames, as of arrays, for a file that takes no others.
      downsample_ratio: the one for that size; by default such that the longest side is about 512 pixels.
      precision: "float32" or "float16".
      clip: a video or folder of pictures to compare on; by default one is drawn.
      overwrite: whether to replace an existing file.

    Returns:
      The report, as it was written.
    """
    kind = _format(to)
    half = _is_half(precision, to, kind)
    with contents_of(source) as contents:
        if baseline_family(contents.arrays):
            path = _baseline_target(contents, source, target, to, size, precision, clip)
            return export_baseline(
                contents, path, to, size=size, scale=downsample_ratio, half=half, overwrite=overwrite
            )
        loaded = whole_network(weights_of(contents), source)
    setting = _setting(to, kind, size, downsample_ratio)
    path = _target(source, target, to, kind.endings, setting and setting.size, precision)
    loaded = replace(loaded, variables=jax.tree.map(_as_float32, loaded.variables))
    described = "drawn" if clip is None else str(clip)
    made = report.begin(path, to, precision, loaded.describe(), described, kind.modules, loaded.provenance)
    with replacing(path, overwrite=overwrite) as new, replacing(report_path(path), overwrite=overwrite) as report_draft:
        frames = None if clip is None else sample_clip.read(Path(clip), FRAMES)
        draft = new.with_name(path.name)  # in a folder of its own, with the ending that belongs to it
        kind.write(loaded, draft, setting, half)
        settings = [setting] if setting else _settings(DRAWN_SIZE if frames is None else frames.shape[1:3])
        with jax.default_device(report.cpu()):
            run, reference = kind.open(draft), parity.jax_run(from_weights(loaded))
            made["cases"] = [_case(run, reference, setting, _at(setting.size, frames)) for setting in settings]
        report.check(made)
        draft.replace(new)
        report_draft.write_text(json.dumps(made, indent=2) + "\n")
    return made


def _baseline_target(
    contents: Contents,
    source: Location,
    target: str | os.PathLike[str] | None,
    to: str,
    size: tuple[int, int] | None,
    precision: str,
    clip: str | os.PathLike[str] | None,
) -> Path:
    """The file to write of another network than RVM; refuse what is for RVM alone."""
    family = baseline_family(contents.arrays)
    if to not in BASELINE_FORMATS:
        known = ", ".join(BASELINE_FORMATS)
        raise InputError(f"cannot export {family} to {to}: choose one of {known}, or `rvm convert`")
    if clip is not None:
        raise InputError(f"--clip is not for {family}, which is compared on drawn frames: leave it out")
    return _target(source, target, to, FORMATS[to].endings, size, precision)


def _case(run: parity.Runner, reference: parity.Runner, setting: FrameSize, clip: np.ndarray) -> dict[str, Any]:
    """A report's entry for one setting."""
    (height, width), ratio = setting
    differences = parity.compare(run, reference, clip, ratio)
    sizes = {"height": height, "width": width, "downsample_ratio": ratio, "frames": len(clip)}
    return {**sizes, "differences": differences}


def _format(to: str) -> ExportFormat:
    if to not in FORMATS:
        raise InputError(f"cannot export to {to!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[to]


def _is_half(precision: str, to: str, kind: ExportFormat) -> bool:
    if precision not in TOLERANCES:
        raise InputError(f"precision is {precision!r}: expected one of {', '.join(TOLERANCES)}")
    if precision == "float16" and not kind.half:
        halves = " or ".join(name for name, kind in FORMATS.items() if kind.half)
        raise InputError(f"--precision float16 is not for {to}: export to {halves}")
    return precision == "float16"


def _setting(to: str, kind: ExportFormat, size: tuple[int, int] | None, ratio: float | None) -> FrameSize | None:
    if size is None:
        if kind.size == "one":
            raise InputError(f"{to} is for frames of one size: say which, as in --size 1920x1080")
        if ratio is not None:
            raise InputError(
                "--downsample-ratio belongs to --size: a file for frames of any size is given the ratio when it runs"
            )
        return None
    if kind.size == "any":
        raise InputError(f"--size is not for {to}, which takes frames of any size: leave it out")
    ratio = automatic_ratio(size) if ratio is None else ratio
    check_frames(np.broadcast_to(np.float32(0), (1, *size, 3)), ratio)
    return FrameSize(size, ratio)


def _target(
    source: Location,
    target: str | os.PathLike[str] | None,
    to: str,
    endings: tuple[str, ...],
    size: tuple[int, int] | None,
    precision: str,
) -> Path:
    if target is None:
        name = weights_name(source)
        if size:
            height, width = size
            name += f"_{width}x{height}{'_portrait' if height > width else ''}"
        if precision != "float32":
            name += f"_{precision}"
        path = Path(name + endings[0])
    else:
        path = local_path(target)
        if path.suffix.lower() not in endings:
            raise InputError(f"{path} ends in {path.suffix!r}: expected {' or '.join(endings)} for {to}")
        if path.is_dir():
            raise InputError(f"{path} is a folder, and a file would be written: choose another name")
    if path.exists() and not is_url(source) and Path(source).exists() and path.samefile(source):
        raise InputError(f"{path} holds the weights that are to be exported: name another file to write")
    return path


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _settings(size: tuple[int, ...]) -> list[FrameSize]:
    """What to compare at if a file takes everything: this size, and a small odd one with the refiner and without it."""
    height, width = size
    ratio = automatic_ratio(size)
    ratio = 0.5 if ratio == 1 else ratio
    factor = min(0.5, 240 / max(size))
    least = math.ceil(SMALLEST_SIDE / 0.625)
    rows, columns = (max(least, int(side * factor)) | 1 for side in size)
    # An ordinary ratio, whose product with the size is rounded, and differently so in float32 and float64.
    odd = automatic_ratio((rows, columns), 2 * max(rows, columns) // 3)
    return [FrameSize((height, width), ratio), FrameSize((rows, columns), odd), FrameSize((rows, columns), 1.0)]


def _at(size: tuple[int, int], frames: np.ndarray | None) -> np.ndarray:
    """The clip at a size, uint8 `[T, H, W, 3]`: `frames`, or a drawn one."""
    if frames is None:
        return sample_clip.draw(size, FRAMES)
    if frames.shape[1:3] == size:
        return frames
    resized = jax.image.resize(frames.astype(np.float32), (len(frames), *size, 3), "linear")
    return np.clip(np.round(np.asarray(resized)), 0, 255).astype(np.uint8)
