"""The pixels of a matting sample, from its plan: NumPy and OpenCV alone, since worker processes make them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.augment import color, easing, motion
from data_pipelines.augment.easing import Draws
from data_pipelines.pipelines.samples import Plan
from data_pipelines.records import images
from data_pipelines.records.clips import Clips


class Operations(NamedTuple):
    """What `render` does to pixels. `tools.bench` gives it the same, timed."""

    decode_color: Callable[[bytes, int], np.ndarray] = images.decode_color
    decode_alpha: Callable[[bytes, int], np.ndarray] = images.decode_gray
    warp: Callable[[np.ndarray, np.ndarray, int, int], np.ndarray] = motion.warp
    add_noise: Callable[[np.ndarray, Draws, int], np.ndarray] = color.add_noise
    adjust: Callable[[np.ndarray, np.ndarray, bool], np.ndarray] = color.adjust
    sharpen: Callable[[np.ndarray, float], np.ndarray] = color.sharpen
    blur: Callable[[np.ndarray, float], np.ndarray] = color.blur


OPERATIONS = Operations()


def render(
    plan: Plan,
    foregrounds: Clips,
    backgrounds: Clips,
    size: int,
    do: Operations = OPERATIONS,
    out: Sequence[np.ndarray] | None = None,
) -> Sequence[np.ndarray]:
    """The pixels of a plan (as NumPy arrays), in `out` if given.

    Foreground, alpha and background, uint8 [T, h, w, 3, 1 or 3].
    """
    shape = len(plan["pause"]), int(plan["height"]), int(plan["width"])
    out = out or [np.empty((*shape, channels), np.uint8) for channels in (3, 1, 3)]
    _render(plan, "foreground", foregrounds, {"foreground": out[0], "alpha": out[1]}, size, do)
    _render(plan, "background", backgrounds, {"image": out[2]}, size, do)
    return out


def composite(foreground: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The foreground before the background: uint8 in, uint8 out, rounded. All broadcast to [..., h, w, 3]."""
    share = alpha.astype(np.float32) / 255
    return np.rint(foreground * share + background * (1 - share)).astype(np.uint8)


def _render(plan: Plan, who: str, clips: Clips, out: Mapping[str, np.ndarray], size: int, do: Operations) -> None:
    """Make the pictures of the foreground's or the background's frames, by name, all moved and coloured alike."""
    names, layers = tuple(out), tuple(out.values())
    numbers, displayed = plan[f"{who} frames"], plan["pause"]
    height, width = int(plan["height"]), int(plan["width"])
    read = functools.lru_cache(maxsize=1)(clips.read)
    with images.named(clips, int(numbers[0])):
        source_size = images.size(read(int(numbers[0]))[names[0]])
    inverse = _inverse(plan, who, source_size, height, width)
    reduction = motion.reduction(inverse)
    reduced = np.diag([1 / reduction, 1 / reduction, 1.0])
    adjustments = easing.along(plan["drift"][who], len(numbers))
    blurs = [np.maximum(0, easing.along(plan["blur"][which], len(numbers))) for which in (who, "all")]
    deviations = np.hypot(*blurs) * max(height, width) / size  # what blurs twice adds its variances
    without_noise = plan["noise"][who]["deviation"] == 0
    decoded, previous = -1, None
    pictures: list[np.ndarray] = []
    for moment, number in enumerate(numbers.tolist()):
        if displayed[moment] != moment:
            for layer in layers:
                layer[moment] = layer[displayed[moment]]
            continue
        made_from = (number, inverse[moment].tobytes(), adjustments[moment].tobytes(), deviations[moment])
        if without_noise and made_from == previous:
            for layer in layers:
                layer[moment] = layer[moment - 1]
            continue
        previous = made_from
        if number != decoded:
            decoded = number
            with images.named(clips, number):
                record = read(number)
                decoders = [do.decode_alpha if name == "alpha" else do.decode_color for name in names]
                pictures = [decode(record[name], reduction) for decode, name in zip(decoders, names, strict=True)]
        for name, layer, picture in zip(names, layers, pictures, strict=True):
            frame = do.warp(picture, reduced @ inverse[moment], height, width)
            if name != "alpha":
                frame = do.add_noise(frame, plan["noise"][who], moment)
                frame = do.adjust(frame, adjustments[moment], bool(plan["grayscale"]))
            frame = do.blur(do.sharpen(frame, float(plan["sharpness"])), deviations[moment])
            layer[moment] = frame.reshape(layer.shape[1:])


def _inverse(plan: Plan, who: str, source: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Where every frame's pixels come from: matrices [T, 3, 3] from the output to a source of this (width, height)."""
    frames = len(plan[f"{who} frames"])
    forward = motion.affine(np.asarray(plan["placed"][who]), *source)
    for moves in ("all", who):
        forward = forward @ motion.affine(easing.along(plan["moves"][moves], frames), *source)
    box = (
        motion.fitting_box(*source, height, width)
        if plan["whole"]
        else motion.centre_box(*source, float(plan["aspect"][who]))
    )
    return np.linalg.inv(forward) @ motion.crop(box, bool(plan["flip"][who]), height, width)
