"""The segmentation pipeline: clips, or stills as clips of one frame, with masks of people.

Samples have positions, plans and pixels as in `data_pipelines.pipelines.matting`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from data_pipelines.pipelines import segmentation_pixels
from data_pipelines.pipelines.batches import Batches, Slice, batched
from data_pipelines.pipelines.samples import Plan
from data_pipelines.records.clips import Clips
from data_pipelines.sampling import augmentations, random_draws, windows


@dataclass(frozen=True)
class SegmentationAugmentation:
    """How far a clip is changed, all of its frames alike unless it moves; `VIDEO` and `STILLS` are the recipe's.

    Attributes:
        degrees: Turned by up to this much.
        shift: Moved by up to this part of its size.
        shear: Sheared along x by up to this many degrees.
        area: The part of the picture that is cut out. A box that would not fit is made smaller.
        aspect: Width by height of what is cut out; it is squashed to a square.
        jitter: Brightness, contrast, saturation and hue change by up to this much.
        grayscale: Probability of turning gray.
        flip: Probability of being mirrored.
        move_stills: Probability that a still moves, where it is seen as a clip of several frames.
    """

    degrees: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    area: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    grayscale: float = 0.0
    flip: float = 0.0
    move_stills: float = 0.0


VIDEO = SegmentationAugmentation(
    area=(0.8, 1.0), aspect=(0.9, 1.1), jitter=(0.3, 0.3, 0.3, 0.15), grayscale=0.05, flip=0.5, move_stills=0.95
)
STILLS = SegmentationAugmentation(
    20.0, 0.1, 10.0, area=(0.5, 1.0), aspect=(0.7, 1.3), jitter=(0.1, 0.1, 0.1, 0.1), flip=0.5
)
NONE = SegmentationAugmentation()


def batches(
    clips: Clips,
    part: Slice,
    *,
    seed: int,
    stream: str,
    frames: int,
    size: int,
    augmentation: SegmentationAugmentation,
    shape: tuple[int, int] | None = None,
    buckets: int = windows.BUCKETS,
) -> Batches:
    """Endless batches for one host: dicts of uint8, `image` [b, T, h, w, 3] and `mask` [b, T, h, w, 1] of 0 and 1.

    A sample may start at any frame of a clip. The arguments are those of `matting.batches`.
    """
    table = windows.windows(clips, 1)

    def drawn(number: tf.Tensor) -> Plan:
        height, width = shape or windows.shape(seed, stream, number // part.batch, size, buckets)
        drawn = plan(random_draws.Position(seed, stream, number), table, frames, augmentation)
        return drawn | {"height": height, "width": width}

    outputs = {"image": (frames, 3), "mask": (frames, 1)}
    return batched(drawn, partial(segmentation_pixels.render, clips=clips), outputs, part)


def plan(
    at: random_draws.Position, table: windows.Windows, frames: int, augmentation: SegmentationAugmentation
) -> dict[str, Any]:
    """Draws everything random about the clip `at` this position."""
    a = augmentation
    first, length, start = windows.take(table, random_draws.item(at, len(table.first)))
    still = a.move_stills if frames > 1 else 0.0
    return {
        "frames": windows.in_order(first, length, start, frames),
        "moves": augmentations.draw_path(at, "clip", tf.where(length == 1, still, 0.0)),
        "placed": augmentations.draw_pose(
            at, "clip", degrees=a.degrees, shift=a.shift, scale=(1.0, 1.0), shear=a.shear
        ),
        "area": random_draws.uniform(at, "area", *a.area),
        "aspect": augmentations.draw_aspect(at, "clip", *a.aspect),
        "corner": random_draws.uniform(at, "corner", 0.0, 1.0, (2,)),
        "flip": random_draws.happens(at, "flip", a.flip),
        "jitter": augmentations.draw_jitter(at, amounts=a.jitter),
        "grayscale": random_draws.happens(at, "grayscale", a.grayscale),
    }
