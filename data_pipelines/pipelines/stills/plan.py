"""The plans of stills: people before backgrounds, paired at random, with trimaps or with an imperfect clean plate.

Samples have positions, plans and pixels as in `data_pipelines.pipelines.matting`, and are clips of one frame.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from data_pipelines.augment import color, motion
from data_pipelines.pipelines.batches import Batches, Slice, batched
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.pipelines.samples import Plan
from data_pipelines.pipelines.stills import pixels
from data_pipelines.records.clips import concatenate
from data_pipelines.sampling import augmentations, random_draws, windows
from data_pipelines.sampling.random_draws import Position


@dataclass(frozen=True)
class StillAugmentation:
    """How people and backgrounds are changed, each for itself.

    Attributes:
        degrees: Turned by up to this much.
        shift: Moved by up to this part of its size.
        shear: Sheared by up to this many degrees.
        person: How large the foreground is, the least and the most.
        background: How large the background is, likewise.
        flip: Probability of being mirrored.
        blur: Probability of being blurred.
        sharpness: Probability that all is sharpened or smoothed.
        jitter: The person's brightness, contrast, saturation and hue change by up to this much.
    """

    degrees: float = 5.0
    shift: float = 0.1
    shear: float = 5.0
    person: tuple[float, float] = (0.4, 1.0)
    background: tuple[float, float] = (1.0, 2.0)
    flip: float = 0.5
    blur: float = 0.1
    sharpness: float = 0.1
    jitter: tuple[float, float, float, float] = (0.15, 0.15, 0.15, 0.05)


STILLS = StillAugmentation()


def trimap_batches(
    data: MattingData, part: Slice, *, unknown: tuple[int, int], augmentation: StillAugmentation = STILLS, **drawn: Any
) -> Batches:
    """Endless batches for one host: `foreground`, `background` [b, 1, h, w, 3], `alpha` and `trimap` [b, 1, h, w, 1].

    All are uint8; a trimap is 0, 255, or 128 where it is unknown, which reaches by between the least and the most of
    `unknown` pixels to each side of an edge. The other arguments are those of `matting.batches`.
    """
    low, high = unknown

    def asked(at: Position) -> dict[str, Any]:
        return {"unknown": low + random_draws.integer(at, "unknown", high - low + 1)}

    outputs = {"foreground": (1, 3), "alpha": (1, 1), "background": (1, 3), "trimap": (1, 1)}
    return _batches(data, part, augmentation, asked, pixels.with_trimap, outputs, **drawn)


def plate_batches(data: MattingData, part: Slice, *, augmentation: StillAugmentation = STILLS, **drawn: Any) -> Batches:
    """Endless batches for one host: `source`, `foreground`, `plate` [b, 1, h, w, 3] and `alpha` [b, 1, h, w, 1], uint8.

    The source shows the person on the background, perhaps with a shadow and with noise. The plate is that background as
    a camera may have taken it before: with noise of its own, in other colours, or a little aside.
    """
    outputs = {"source": (1, 3), "foreground": (1, 3), "alpha": (1, 1), "plate": (1, 3)}
    return _batches(data, part, augmentation, _imperfections, pixels.with_plate, outputs, **drawn)


def _batches(
    data: MattingData,
    part: Slice,
    augmentation: StillAugmentation,
    asked: Any,
    render: Any,
    outputs: dict[str, tuple[int, int]],
    *,
    seed: int,
    stream: str,
    size: int,
    buckets: int,
) -> Batches:
    table = data.windows(1)
    backgrounds = concatenate([data.background_images, data.background_clips])

    def plan(number: tf.Tensor) -> Plan:
        at = Position(seed, stream, number)
        height, width = windows.shape(seed, stream, number // part.batch, size, buckets)
        return {**draw(at, data, table, augmentation), **asked(at), "height": height, "width": width}

    render = partial(render, foregrounds=data.foregrounds, backgrounds=backgrounds, size=size)
    return batched(plan, render, outputs, part)


def draw(at: Position, data: MattingData, table: windows.Windows, augmentation: StillAugmentation) -> dict[str, Any]:
    """Draws a person and a background, and what happens to both, as `matting_pixels.render` takes it."""
    a = augmentation
    first, length, start = windows.take(table, random_draws.item(at, len(table.first)))
    sides = {"foreground": a.person, "background": a.background}
    jitter = augmentations.draw_jitter(at, amounts=a.jitter)
    return {
        "whole": tf.constant(False),
        "foreground frames": windows.in_order(first, length, start, 1),
        "background frames": windows.background(at, data.background_images, data.background_clips, 1),
        "moves": dict.fromkeys(("foreground", "background", "all"), _still(tf.constant(motion.UNMOVED))),
        "placed": {
            who: augmentations.draw_pose(at, who, degrees=a.degrees, shift=a.shift, scale=scale, shear=a.shear)
            for who, scale in sides.items()
        },
        "aspect": dict.fromkeys(sides, tf.constant(1.0)),
        "flip": {who: random_draws.happens(at, f"{who} flip", a.flip) for who in sides},
        "noise": {who: augmentations.draw_noise(at, who, tf.constant(False)) for who in sides},
        "drift": {"foreground": _still(jitter), "background": _still(tf.constant(color.UNCHANGED))},
        "grayscale": tf.constant(False),
        "sharpness": augmentations.draw_sharpness(at, a.sharpness),
        "blur": {
            **{who: _still(_draw_blur(at, who, a.blur)) for who in sides},
            "all": _still(tf.constant(0.0)),
        },
        "pause": tf.zeros((1,), tf.int64),
    }


def _still(value: tf.Tensor) -> random_draws.Drawn:
    """What does not move, as a movement."""
    return {"ends": tf.stack([value, value]), "curve": tf.constant(0, tf.int64)}


def _draw_blur(at: Position, who: str, probability: float) -> tf.Tensor:
    """A standard deviation in pixels: that of a box of radius 0 to 5."""
    deviation = random_draws.uniform(at, f"{who} deviation", 0.0, 3.0)
    return tf.where(random_draws.happens(at, f"{who} blur", probability), deviation, 0.0)


def _imperfections(at: Position) -> dict[str, Any]:
    """What keeps a plate from being the background: BackgroundMattingV2's probabilities and amounts."""
    noisy = random_draws.happens(at, "sensor noise", 0.4)

    def draw_sensor_noise(who: str) -> random_draws.Drawn:
        return {
            "grain": tf.constant(1, tf.int64),
            "deviation": tf.where(noisy, 0.03 * random_draws.uniform(at, f"{who} sensor noise", 0.0, 1.0), 0.0),
            "gray": tf.constant(False),
            "key": random_draws.key(at, f"{who} sensor noise bits"),
        }

    strength = 0.3 * random_draws.uniform(at, "shadow strength", 0.0, 1.0)
    jitter = random_draws.uniform(at, "plate jitter", -1.0, 1.0, (4,)) * tf.constant([0.18, 0.18, 0.18, 0.1])
    return {
        "shadow": {
            "strength": tf.where(random_draws.happens(at, "shadow", 0.3), strength, 0.0),
            "pose": augmentations.draw_pose(at, "shadow", degrees=5.0, shift=0.2, scale=(0.5, 1.5), shear=5.0),
            "blur": 20 + random_draws.integer(at, "shadow blur", 20),
        },
        "sensor noise": {who: draw_sensor_noise(who) for who in ("source", "plate")},
        "plate jitter": tf.where(random_draws.happens(at, "plate jitters", 0.8), jitter, tf.zeros(4)),
        "plate pose": tf.where(
            random_draws.happens(at, "plate shifts", 0.3),
            augmentations.draw_pose(at, "plate", degrees=1.0, shift=0.01, scale=(1.0, 1.0), shear=0.0),
            tf.constant(motion.UNMOVED),
        ),
    }
