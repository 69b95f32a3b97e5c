"""Backgrounds without people: the scenery of `scenery.py`, with things that move before it, through a camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipelines.synthetic import scenery
from data_pipelines.synthetic.canvas import Color, Pixels, Points, ellipse, quantised, rectangle
from data_pipelines.synthetic.scenery import blob, fill
from data_pipelines.synthetic.textures import any_color, clouds, grain, scaled, skin_tone

SPARE = 1.3  # the picture is larger than the frame by this factor, for the camera to move in


@dataclass(frozen=True)
class Mover:
    """A thing that moves on its own: polygons around its middle, and a path."""

    shapes: list[tuple[Points, Color]]
    start: Points
    velocity: Points  # pixels a second
    swing: Points  # pixels up and down
    rate: float
    spin: float  # radians a second
    phase: float


@dataclass(frozen=True)
class Background:
    """What stays the same of a background for a whole clip."""

    picture: Pixels  # [SPARE * height, SPARE * width, 3]
    movers: list[Mover]
    pan: Points  # how far the camera swings, in fractions of the spare picture
    rates: Points
    phases: Points
    zoom: float


def design(rng: np.random.Generator, height: int, width: int) -> Background:
    """Draw a background from `rng` for a frame of `height` and `width`."""
    paint = (scenery.room, scenery.outdoors, scenery.abstract)[rng.choice(3, p=[0.45, 0.3, 0.25])]
    picture = _finished(rng, paint(rng, round(SPARE * height), round(SPARE * width)))
    resting = rng.uniform() < 0.2
    return Background(
        picture=picture,
        movers=[_mover(rng, height, width) for _ in range(rng.integers(0, 4))],
        pan=rng.uniform(0.3, 1, 2) * (not resting),
        rates=rng.uniform(0.6, 2.2, 3),
        phases=rng.uniform(0, 2 * np.pi, 3),
        zoom=rng.uniform(0, 0.12) * (not resting),
    )


def draw(background: Background, height: int, width: int, time: float) -> Pixels:
    """The frame [height, width, 3] at `time` seconds."""
    tall, wide = background.picture.shape[:2]
    swing = np.sin(background.rates * time + background.phases)
    scale = 1.12 + background.zoom * swing[2]  # never so small that the picture would end inside the frame
    room = np.array([scale * wide - width, scale * tall - height]) / 2
    offset = room * (0.7 * background.pan * swing[:2] - 1)
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    frame = cv2.warpAffine(
        background.picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    for mover in background.movers:
        _draw_mover(frame, mover, offset + room, time)
    return frame


def _draw_mover(frame: Pixels, mover: Mover, camera: Points, time: float) -> None:
    width = frame.shape[1]
    angle = mover.spin * time + mover.phase * bool(mover.spin)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    place = mover.start + mover.velocity * time + mover.swing * np.sin(mover.rate * time + mover.phase)
    place[0] = (place[0] + 0.4 * width) % (1.8 * width) - 0.4 * width  # comes back on the other side
    for points, color in mover.shapes:
        fill(frame, points @ turn + place + camera, color)


def _mover(rng: np.random.Generator, height: int, width: int) -> Mover:
    """A ball, a car or a thing of no name."""
    size = height * rng.uniform(0.06, 0.2)
    color = skin_tone(rng) if rng.uniform() < 0.3 else any_color(rng)
    kind = rng.choice(["ball", "car", "thing"])
    spin = rng.normal(0, 1.5)
    if kind == "ball":
        shapes = [(ellipse((0, 0), size / 2, size / 2), color)]
        shapes += [(ellipse((-0.1 * size, -0.1 * size), size / 3, size / 3), scaled(color, 1.2))]
        shapes += [(rectangle(-0.07 * size, -0.47 * size, 0.07 * size, 0.47 * size), scaled(color, 0.6))]
    elif kind == "car":
        spin, roof = 0.0, np.array([[-0.6, -0.2], [-0.4, -0.6], [0.35, -0.6], [0.6, -0.2]])
        shapes = [(rectangle(-size, -0.2 * size, size, 0.3 * size), color), (roof * size, scaled(color, 0.9))]
        shapes += [(roof * [0.85, 0.9] * size - [0, 0.04 * size], (150.0, 175.0, 190.0))]
        shapes += [(ellipse((x * size, 0.3 * size), 0.2 * size, 0.2 * size), (25.0, 25.0, 28.0)) for x in (-0.6, 0.6)]
    else:
        shapes = [(blob(rng, 0, 0, size * (1 - 0.3 * step)), scaled(color, 1 - 0.2 * step)) for step in range(3)]
    return Mover(
        shapes=shapes,
        start=np.array([width * rng.uniform(), height * (rng.uniform() if kind != "car" else rng.uniform(0.6, 0.95))]),
        velocity=np.array([rng.normal(0, 0.35) * width, 0]),
        swing=np.array([0, height * rng.uniform(0, 0.12) * (kind != "car")]),
        rate=rng.uniform(1, 6),
        spin=spin,
        phase=rng.uniform(0, 2 * np.pi),
    )


def _finished(rng: np.random.Generator, picture: Pixels) -> Pixels:
    """Out of focus by some amount, lit unevenly, with grain."""
    height, width = picture.shape[:2]
    blur = height * rng.uniform(0, 0.02) * (rng.uniform() < 0.6)
    soft = cv2.GaussianBlur(picture, (0, 0), max(blur, 0.4)).astype(np.float32)
    light = 1 + 0.15 * clouds(rng, height, width, height * 0.8, 1)[..., None]
    tint = rng.uniform(0.88, 1.08, 3).astype(np.float32)
    return quantised(soft * light * tint + rng.uniform(0, 4) * grain(rng, height, width))
