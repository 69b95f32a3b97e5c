"""The matting pipeline: clips of foreground, alpha and background, ready to be composited on the device.

A sample is a pure function of (seed, stream, number). Numbers are handed out by position: slot `s` of global batch `b`
is number `b · batch + s`, so a pipeline starts anywhere at once, needs no state, and the slices of several hosts are
together the batch of one. TensorFlow draws a plan, a few numbers a clip (`plan`); `matting_pixels.render` makes the
pixels from it.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import tensorflow as tf

from data_pipelines.augment import motion
from data_pipelines.pipelines import matting_pixels
from data_pipelines.pipelines.batches import Batches, Slice, batched
from data_pipelines.pipelines.samples import Plan
from data_pipelines.records.clips import EMPTY, Clips, concatenate
from data_pipelines.sampling import augmentations, random_draws, windows


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
    """
    table = data.windows(frames)
    backgrounds = concatenate([data.background_images, data.background_clips])

    def drawn(number: tf.Tensor) -> Plan:
        height, width = shape or windows.shape(seed, stream, number // part.batch, size, buckets)
        drawn = plan(random_draws.Position(seed, stream, number), data, table, frames, augmentation)
        return drawn | {"height": height, "width": width}

    outputs = {"foreground": (frames, 3), "alpha": (frames, 1), "background": (frames, 3)}
    render = partial(matting_pixels.render, foregrounds=data.foregrounds, backgrounds=backgrounds, size=size)
    return batched(drawn, render, outputs, part)


def plan(
    at: random_draws.Position, data: MattingData, table: windows.Windows, frames: int, augmentation: MattingAugmentation
) -> dict[str, Any]:
    """Draws everything random about the clip `at` this position."""
    p = augmentation
    first, length, start = windows.take(table, random_draws.item(at, len(table.first)))
    if p.varied:
        foreground_frames = windows.varied(at, "foreground", first, length, start, frames)
        placed = {
            "foreground": augmentations.draw_pose(at, "foreground", degrees=10, shift=0.1, scale=(0.5, 1.0), shear=5),
            "background": augmentations.draw_pose(at, "background", degrees=10, shift=0.1, scale=(1.0, 1.5), shear=5),
        }
        aspect = {who: augmentations.draw_aspect(at, who, 0.9, 1.1) for who in placed}
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
            "foreground": augmentations.draw_path(at, "foreground", p.move_foreground),
            "background": augmentations.draw_path(at, "background", p.move_background),
            "all": augmentations.draw_path(at, "all", p.move_all),
        },
        "placed": placed,
        "aspect": aspect,
        "flip": {who: random_draws.happens(at, f"{who} flip", p.flip) for who in placed},
        "noise": {who: augmentations.draw_noise(at, who, noise) for who in placed},
        "drift": {who: augmentations.draw_drift(at, who, p.drift) for who in placed},
        "grayscale": random_draws.happens(at, "grayscale", p.grayscale),
        "sharpness": augmentations.draw_sharpness(at, p.sharpness),
        "blur": {who: augmentations.draw_blur(at, who, p.blur) for who in ("foreground", "background", "all")},
        "pause": augmentations.draw_pause(at, p.pause, frames),
    }
