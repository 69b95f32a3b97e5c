"""The matting pipeline: clips of foreground, alpha and background, ready to be composited on the device.

A sample is a pure function of (seed, stream, number). Numbers are handed out by position: slot `s` of global batch `b`
is number `b · batch + s`, so a pipeline starts anywhere at once, needs no state, and the slices of several hosts are
together the batch of one. TensorFlow draws a plan, a few numbers a clip (`plan`); one function makes the pixels from it
(`render`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data_pipelines.augment import color, easing, motion
from data_pipelines.pipelines.batches import Batches, Plan, Slice, batched
from data_pipelines.records import images
from data_pipelines.records.clips import EMPTY, Clips, concatenate
from data_pipelines.sampling import random_draws, windows
from data_pipelines.sampling.random_draws import Drawn


@dataclass(frozen=True)
class MattingAugmentation:
    """Probabilities of what happens to a clip; `VIDEO` and `IMAGES` are the recipe's.

    Attributes:
        varied: Whether frames are taken at random speeds, shifts and directions, and pictures are placed at random.
            If not, all of a picture is seen that the shape has room for.
        move_foreground: Foreground and alpha move.
        move_background: The background moves.
        move_all: All three move together.
        flip: Mirrored, foreground with alpha and background each for itself.
        noise: Foreground and background get grain.
        drift: Colours drift, foreground and background each for itself.
        grayscale: Foreground and background turn gray.
        sharpness: All three are sharpened or smoothed by the same factor.
        blur: Each of three: foreground with alpha, background, all.
        pause: Everything halts for a while.
    """

    varied: bool = True
    move_foreground: float = 0.3
    move_background: float = 0.15
    move_all: float = 0.15
    flip: float = 0.5
    noise: float = 0.1
    drift: float = 0.3
    grayscale: float = 0.02
    sharpness: float = 0.1
    blur: float = 0.02 / 3
    pause: float = 0.03


VIDEO = MattingAugmentation()
IMAGES = replace(VIDEO, move_foreground=0.95, noise=0.05, grayscale=0.03, sharpness=0.05)
NONE = MattingAugmentation(
    varied=False,
    move_foreground=0.0,
    move_background=0.0,
    move_all=0.0,
    flip=0.0,
    noise=0.0,
    drift=0.0,
    grayscale=0.0,
    sharpness=0.0,
    blur=0.0,
    pause=0.0,
)


@dataclass(frozen=True)
class MattingData:
    """What clips are made of: `foregrounds` hold foreground and alpha, the backgrounds an image."""

    foregrounds: Clips
    background_images: Clips = EMPTY
    background_clips: Clips = EMPTY

    def windows(self, frames: int) -> windows.Windows:
        """The samples of an epoch over the foregrounds."""
        return windows.windows(self.foregrounds, frames)

    @property
    def of_images(self) -> bool:
        """Whether every foreground is a single image."""
        return int(self.foregrounds.lengths.max()) == 1

    @property
    def augmentation(self) -> MattingAugmentation:
        """The recipe's for these foregrounds."""
        return IMAGES if self.of_images else VIDEO

    def epoch(self, frames: int, *, images: bool) -> int:
        """How many samples an epoch has: all windows; with `images`, at least as many as there are backgrounds."""
        samples = len(self.windows(frames).first)
        return max(samples, len(self.background_images) + len(self.background_clips)) if images else samples


def batches(
    data: MattingData,
    part: Slice,
    *,
    seed: int,
    stream: str,
    frames: int,
    size: int,
    augmentation: MattingAugmentation = VIDEO,
    shape: tuple[int, int] | None = None,
    buckets: int = windows.BUCKETS,
    threads: int | None = None,
) -> Batches:
    """Endless batches for one host.

    Each is a dict of uint8 arrays, `foreground` and `background` [b, T, h, w, 3] and `alpha` [b, T, h, w, 1], where b
    is the host's share of the batch and h, w are the same for all of a batch.

    Args:
        data: The clips.
        part: Which samples: the first batch, the size of the global batch, and this host's share.
        seed: The seed of the run.
        stream: A name; streams of other names draw other samples.
        frames: T.
        size: S, the side of the square from which a batch's shape is cut.
        augmentation: What happens to clips.
        shape: A fixed height and width instead of a random one for each batch.
        buckets: From how many heights, and how many widths, a random one is drawn.
        threads: How many samples are made at the same time; all cores by default. The result does not depend on it.
    """
    table = data.windows(frames)
    backgrounds = concatenate([data.background_images, data.background_clips])

    def drawn(number: tf.Tensor) -> Plan:
        height, width = shape or windows.shape(seed, stream, number // part.batch, size, buckets)
        drawn = plan(random_draws.Position(seed, stream, number), data, table, frames, augmentation)
        return drawn | {"height": height, "width": width}

    outputs = {"foreground": (frames, 3), "alpha": (frames, 1), "background": (frames, 3)}
    return batched(drawn, lambda plan: render(plan, data.foregrounds, backgrounds, size), outputs, part, threads)


def plan(
    at: random_draws.Position, data: MattingData, table: windows.Windows, frames: int, augmentation: MattingAugmentation
) -> dict[str, Any]:
    """Draws everything random about the clip `at` this position."""
    p = augmentation
    first, length, start = windows.take(table, random_draws.item(at, len(table.first)))
    if p.varied:
        foreground_frames = windows.varied(at, "foreground", first, length, start, frames)
        placed = {
            "foreground": motion.draw_pose(at, "foreground", degrees=10, shift=0.1, scale=(0.5, 1.0), shear=5),
            "background": motion.draw_pose(at, "background", degrees=10, shift=0.1, scale=(1.0, 1.5), shear=5),
        }
        aspect = {who: motion.draw_aspect(at, who, 0.9, 1.1) for who in placed}
    else:
        foreground_frames = windows.in_order(first, length, start, frames)
        placed = {who: tf.constant(motion.UNMOVED) for who in ("foreground", "background")}
        aspect = {who: tf.constant(1.0) for who in placed}
    noise = random_draws.happens(at, "noise", p.noise)
    return {
        "whole": tf.constant(not p.varied),
        "foreground frames": foreground_frames,
        "background frames": windows.background(
            at, data.background_images, data.background_clips, frames, vary=p.varied
        ),
        "moves": {
            "foreground": motion.draw_path(at, "foreground", p.move_foreground),
            "background": motion.draw_path(at, "background", p.move_background),
            "all": motion.draw_path(at, "all", p.move_all),
        },
        "placed": placed,
        "aspect": aspect,
        "flip": {who: random_draws.happens(at, f"{who} flip", p.flip) for who in placed},
        "noise": {who: color.draw_noise(at, who, noise) for who in placed},
        "drift": {who: color.draw_drift(at, who, p.drift) for who in placed},
        "grayscale": random_draws.happens(at, "grayscale", p.grayscale),
        "sharpness": color.draw_sharpness(at, p.sharpness),
        "blur": {who: color.draw_blur(at, who, p.blur) for who in ("foreground", "background", "all")},
        "pause": motion.draw_pause(at, p.pause, frames),
    }


class Operations(NamedTuple):
    """What `render` does to pixels. `tools.bench` gives it the same, timed."""

    decode_color: Callable[[bytes, int], np.ndarray] = images.decode_color
    decode_alpha: Callable[[bytes, int], np.ndarray] = images.decode_gray
    warp: Callable[[np.ndarray, np.ndarray, int, int], np.ndarray] = motion.warp
    add_noise: Callable[[np.ndarray, Drawn, int], np.ndarray] = color.add_noise
    adjust: Callable[[np.ndarray, np.ndarray, bool], np.ndarray] = color.adjust
    sharpen: Callable[[np.ndarray, float], np.ndarray] = color.sharpen
    blur: Callable[[np.ndarray, float], np.ndarray] = color.blur


OPERATIONS = Operations()


def render(
    plan: Plan, foregrounds: Clips, backgrounds: Clips, size: int, do: Operations = OPERATIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels of a plan (as NumPy arrays): foreground, alpha and background, uint8 [T, h, w, 3, 1 or 3]."""
    foreground, alpha = _layer(plan, "foreground", foregrounds, ("foreground", "alpha"), size, do)
    (background,) = _layer(plan, "background", backgrounds, ("image",), size, do)
    return foreground, alpha, background


def composite(foreground: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The foreground before the background: uint8 in, uint8 out, rounded. All broadcast to [..., h, w, 3]."""
    share = alpha.astype(np.float32) / 255
    return np.rint(foreground * share + background * (1 - share)).astype(np.uint8)


def _layer(plan: Plan, who: str, clips: Clips, names: tuple[str, ...], size: int, do: Operations) -> list[np.ndarray]:
    """The pictures `names` of the foreground's or the background's frames, all moved and coloured alike."""
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
    layers = [np.empty((len(numbers), height, width, _CHANNELS[name]), np.uint8) for name in names]
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
    return layers


_CHANNELS = {"foreground": 3, "image": 3, "alpha": 1}


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
