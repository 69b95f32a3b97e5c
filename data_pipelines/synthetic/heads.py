"""Heads: a face that turns and talks, with the hair of `hair.py`, maybe a beard, glasses or a hat.

Everything is in units of the head's half height: (0, 0) is its middle, (0, -1) the crown, (0, 1) the chin.
"""

from dataclasses import dataclass

import numpy as np

from data_pipelines.synthetic import hair as hairs
from data_pipelines.synthetic.canvas import Closeup, Color, Floats, Points, closeup, ellipse, lines, polygon, settle
from data_pipelines.synthetic.textures import any_color, scaled

WHITE = (232.0, 228.0, 222.0)


@dataclass(frozen=True)
class Head:
    """What stays the same of a head for a whole clip."""

    skin: Color
    lips: Color
    eyes: Color
    hair: hairs.Hair
    hairline: float  # its height over the face
    beard: bool
    glasses: bool
    hat: Color | None
    brim: bool
    blink: float  # when, in a cycle of a few seconds


@dataclass(frozen=True)
class Stance:
    """Where a head is in one frame: its middle and half height in pixels, and how it is turned, in radians."""

    centre: Points
    radius: float
    roll: float
    yaw: float  # 0: towards the viewer; positive: to the right of the picture
    push: float  # how far the ends of its hair are pushed sideways
    time: float


def design(rng: np.random.Generator, skin: Color) -> Head:
    """Draw a head from `rng`."""
    hair = hairs.design(rng)
    return Head(
        skin=skin,
        lips=(min(255.0, 0.85 * skin[0] + 14), 0.58 * skin[1], 0.6 * skin[2]),
        eyes=any_color(rng, (0.2, 0.6), (0.15, 0.5)),
        hair=hair,
        hairline=rng.uniform(-0.66, -0.42),
        beard=bool(hair.style != "long" and rng.uniform() < 0.35),
        glasses=bool(rng.uniform() < 0.22),
        hat=any_color(rng) if rng.uniform() < 0.14 else None,
        brim=bool(rng.uniform() < 0.6),
        blink=rng.uniform(),
    )


def draw_hair_behind(canvas: Floats, head: Head, stance: Stance, light: float) -> None:
    """Long hair below the head: over the shoulders, under the neck and the face."""
    if head.hair.style != "long":
        return
    bottom = 1.25 * head.hair.length
    side = 1.5 + abs(stance.push) + bottom * abs(np.sin(0.5 * stance.roll))
    place = closeup(stance.centre, stance.radius, 0.5 * stance.roll, (-side, -1.3, side, bottom))
    hairs.behind(place, head.hair, stance.push, stance.time)
    settle(canvas, place, light)


def draw(canvas: Floats, head: Head, stance: Stance, light: float) -> None:
    """The head from the chin up."""
    place = closeup(stance.centre, stance.radius, stance.roll, (-1.8, -1.95, 1.8, 1.3))
    picture = place.pixels
    facing = np.cos(stance.yaw) > -0.1
    hairs.halo(place, head.hair, stance.push, stance.time)
    polygon(picture, place(_outline()), head.skin)
    if head.hair.style != "bald":
        hairs.cap(place, head.hair, stance.yaw)
    if facing:
        polygon(picture, place(_inside(_face(head, stance.yaw))), head.skin)
        if head.beard:
            polygon(picture, place(_inside(_turned(_beard(), stance.yaw))), scaled(head.hair.tone, 0.9))
        _features(place, head, stance)
    for side in (-1, 1):
        around = 1.45 * side + stance.yaw
        if np.cos(around) > -0.3 and head.hair.style != "long":
            ear = ellipse((0.77 * np.sin(around), 0.08), 0.09 + 0.06 * np.cos(around), 0.2, 16)
            polygon(picture, place(ear), scaled(head.skin, 0.86))
    if head.hair.style != "bald":
        hairs.streaks(place, head.hair, stance.yaw)
    if head.hat is not None:
        _hat(place, head, head.hat, stance.yaw)
    settle(canvas, place, light)


def _outline() -> Points:
    """The skull, narrower towards the chin."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    narrow = 1 - 0.2 * np.clip(-np.cos(angle), 0, 1) ** 1.5
    return np.stack([0.75 * np.sin(angle) * narrow, -np.cos(angle)], -1)


def _inside(points: Points) -> Points:
    """`points`, those that stand over the outline of the head pulled back onto it."""
    low = np.clip(points[:, 1:], 0, 1)
    size = np.concatenate([0.75 * (1 - 0.2 * low**1.5), np.ones_like(low)], -1)
    return points / np.maximum(np.linalg.norm(points / size, axis=-1, keepdims=True), 1)


def _turned(points: Points, yaw: float) -> Points:
    """Points of a face that looks at the viewer, as it turns: x is a place on a cylinder."""
    longitude = np.arcsin(np.clip(points[..., 0] / 0.8, -1, 1)) + yaw
    return np.stack([0.8 * np.sin(np.clip(longitude, -np.pi / 2, np.pi / 2)), points[..., 1]], -1)


def _face(head: Head, yaw: float) -> Points:
    """Where skin shows between the hair."""
    middle, radius = (1.0 + head.hairline) / 2, (1.05 - head.hairline) / 2
    points = ellipse((0, middle), 0.7 if head.hair.style == "long" else 0.785, radius, 40)
    points[:, 0] *= 1 - 0.1 * (points[:, 1] < -0.1)
    return _turned(points, yaw)


def _beard() -> Points:
    around = np.linspace(-1.75, 1.75, 20)
    outer = np.stack([0.78 * np.sin(around), 0.12 + 0.95 * np.cos(around)], -1)
    inner = np.stack([0.5 * np.sin(around[::-1]), 0.22 + 0.28 * np.cos(around[::-1])], -1)
    return np.concatenate([outer, inner])


def _features(place: Closeup, head: Head, stance: Stance) -> None:
    """Eyes, brows, nose, mouth and glasses."""

    def put(points: Points, color: Color) -> None:
        polygon(place.pixels, place(_inside(_turned(points, stance.yaw))), color)

    shut = (stance.time / 3 + head.blink) % 1 < 0.04
    talk = 0.5 + 0.5 * np.sin(9 * stance.time + 7 * head.blink) * np.sin(2.3 * stance.time)
    shadow, brow = scaled(head.skin, 0.72), scaled(head.hair.tone, 0.75)
    for side in (-1, 1):
        put(ellipse((0.3 * side, 0.01), 0.17, 0.1, 16), scaled(head.skin, 0.85))
        if shut:
            put(ellipse((0.3 * side, 0.04), 0.13, 0.02, 12), shadow)
        else:
            put(ellipse((0.3 * side, 0.02), 0.12, 0.065, 16), scaled(head.skin, 0.4))
            put(ellipse((0.3 * side, 0.03), 0.11, 0.05, 16), WHITE)
            put(ellipse((0.3 * side, 0.025), 0.055, 0.055, 12), head.eyes)
        put(np.array([[0.14, -0.13], [0.3, -0.19], [0.46, -0.12], [0.3, -0.14]]) * [side, 1], brow)
    nose = np.array([[-0.03, 0.05], [0.05, 0.05], [0.12, 0.34], [0.0, 0.39], [-0.1, 0.34]])
    put(nose, scaled(head.skin, 0.9))
    put(ellipse((0.0, 0.36), 0.1, 0.03, 12), shadow)
    put(ellipse((0.0, 0.6), 0.22, 0.06 + 0.05 * talk, 20), head.lips)
    put(ellipse((0.0, 0.6), 0.17, 0.01 + 0.05 * talk, 16), scaled(head.lips, 0.35))
    if head.glasses:
        rims = np.stack([np.r_[lens, lens[:1]] for lens in (ellipse((x, 0.03), 0.21, 0.16, 20) for x in (-0.3, 0.3))])
        lines(place.pixels, place(_turned(rims, stance.yaw)), (24, 24, 26), 2)
        lines(place.pixels, place(_turned(np.array([[[-0.09, 0.0], [0.09, 0.0]]]), stance.yaw)), (24, 24, 26), 2)


def _hat(place: Closeup, head: Head, color: Color, yaw: float) -> None:
    """A beanie, or a cap whose peak points where the face looks."""
    swell = 0.06 + 0.5 * head.hair.volume
    angle = np.linspace(-1.22, 1.22, 30)
    x, y = (0.78 + swell) * np.sin(angle), -0.12 - (0.94 + swell) * np.cos(angle)
    polygon(place.pixels, place(np.stack([x, y], -1)), color)
    edge = y[0]
    if head.brim:
        middle = 0.55 * np.sin(yaw)
        if np.cos(yaw) > -0.1:
            polygon(place.pixels, place(ellipse((middle, edge), 0.72, 0.14 + 0.08 * np.cos(yaw))), scaled(color, 0.7))
    else:
        band = np.array([[x[0], edge - 0.14], [x[-1], edge - 0.14], [x[-1], edge + 0.12], [x[0], edge + 0.12]])
        polygon(place.pixels, place(band * [1.03, 1]), scaled(color, 0.75))
