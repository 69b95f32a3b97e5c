"""Random draws of the augmentations: a few numbers a clip, of which `augment` makes pixels."""

import math

import tensorflow as tf

from data_pipelines.augment import color, easing, motion
from data_pipelines.sampling import random_draws
from data_pipelines.sampling.random_draws import Drawn, Position


def draw_pose(
    at: Position, who: str, *, degrees: float, shift: float, scale: tuple[float, float], shear: float
) -> tf.Tensor:
    """A random pose: float32 [5]."""
    low = tf.constant([-degrees, -shift, -shift, scale[0], -shear])
    high = tf.constant([degrees, shift, shift, scale[1], shear])
    return low + (high - low) * random_draws.uniform(at, f"{who} pose", 0.0, 1.0, (5,))


def draw_path(at: Position, who: str, probability: float) -> Drawn:
    """A movement from one random pose to another; if it does not happen, both are `motion.UNMOVED`."""
    ends = [
        draw_pose(at, f"{who} {end}", degrees=10.0, shift=0.1, scale=(0.9, 1.1), shear=5.0) for end in ("begin", "end")
    ]
    moves = random_draws.happens(at, f"{who} moves", probability)
    return {
        "ends": tf.where(moves, tf.stack(ends), tf.constant([motion.UNMOVED, motion.UNMOVED])),
        "curve": draw_curve(at, who),
    }


def draw_pause(at: Position, probability: float, frames: int) -> tf.Tensor:
    """Which frame is shown at each moment: int64 [T]; in a pause, a run of frames repeats its first."""
    start = random_draws.integer(at, "pause start", frames)
    length = 1 + random_draws.integer(at, "pause length", frames - start)
    moments = tf.range(frames, dtype=tf.int64)
    paused = tf.where((moments >= start) & (moments < start + length), start, moments)
    return tf.where(random_draws.happens(at, "pause", probability), paused, moments)


def draw_aspect(at: Position, who: str, low: float, high: float) -> tf.Tensor:
    """Width by height, as likely wide as tall."""
    return tf.exp(random_draws.uniform(at, f"{who} aspect", math.log(low), math.log(high)))


def draw_curve(at: Position, who: str) -> tf.Tensor:
    """An easing curve: linear with probability 0.2, else one of all others."""
    other = 1 + random_draws.integer(at, f"{who} curve", len(easing.NAMES) - 1)
    return tf.where(random_draws.happens(at, f"{who} is linear", 0.2), tf.zeros_like(other), other)


def draw_drift(at: Position, who: str, probability: float) -> Drawn:
    """Colours that move at most a fifth of the way from one random adjustment to another."""
    begin, end = (
        random_draws.normal(at, f"{who} colour {name}", 0.1, (4,)) * tf.constant([1.0, 1.0, 1.0, 0.1])
        for name in ("begin", "end")
    )
    reached = begin + (end - begin) * random_draws.uniform(at, f"{who} colour reach", 0.0, 0.2)
    ends = tf.where(
        random_draws.happens(at, f"{who} colour drifts", probability),
        tf.stack([begin, reached]),
        tf.constant([color.UNCHANGED, color.UNCHANGED]),
    )
    return {"ends": ends, "curve": draw_curve(at, f"{who} colour")}


def draw_jitter(at: Position, *, amounts: tuple[float, float, float, float]) -> tf.Tensor:
    """One adjustment for a whole clip, each part uniform within ± its amount: float32 [4]."""
    return random_draws.uniform(at, "jitter", -1.0, 1.0, (4,)) * tf.constant(amounts)


def draw_noise(at: Position, who: str, happens: tf.Tensor) -> Drawn:
    """Film grain: its size in pixels, how strong (0 if it does not happen), whether gray, and the key of its bits.

    The recipe draws it on the square of side S, before that is shrunk to the step's shape; here its pixels are those of
    the step, so it is a little coarser and stronger.
    """
    grain = 1 + random_draws.integer(at, f"{who} grain", 4)
    deviation = random_draws.uniform(at, f"{who} noise", 0.0, 0.2) / tf.cast(grain, tf.float32)
    return {
        "grain": grain,
        "deviation": tf.where(happens, deviation, 0.0),
        "gray": random_draws.happens(at, f"{who} noise is gray", 0.5),
        "key": random_draws.key(at, f"{who} noise bits"),
    }


def draw_sharpness(at: Position, probability: float) -> tf.Tensor:
    """A factor: 0 smooths, 1 changes nothing, more sharpens (at the step's shape, where the recipe does at S)."""
    return tf.where(
        random_draws.happens(at, "sharpness", probability), random_draws.uniform(at, "sharpness factor", 0.0, 8.0), 1.0
    )


def draw_blur(at: Position, who: str, probability: float) -> Drawn:
    """A standard deviation in pixels that moves between two values."""
    ends = random_draws.uniform(at, f"{who} blur ends", 0.0, 10.0, (2,))
    return {
        "ends": tf.where(random_draws.happens(at, f"{who} blur", probability), ends, tf.zeros(2)),
        "curve": draw_curve(at, f"{who} blur"),
    }
