"""People: what they look like, how they move, and how they are drawn.

A body is in units of its own height, x to the right, y down from the crown and z towards the viewer, before it turns.
Its parts are sprites, drawn once a clip and moved by a skeleton; head and hair are drawn anew for every frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipelines.synthetic import heads
from data_pipelines.synthetic.canvas import (
    FRACTION_BITS,
    OPAQUE,
    Color,
    Floats,
    Points,
    ellipse,
    fixed,
    paste,
    polygon,
)
from data_pipelines.synthetic.textures import any_color, cloth, scaled, skin_tone, tiled

HEAD = 0.076  # half its height
MARGIN = 3  # pixels around a sprite

# For each arm: sideways and forward angle of the upper arm and of the forearm, and how far each swings.
ARMS = {
    "hang": ((0.14, 0.0, 0.06, 0.25), (0.03, 0.12, 0.03, 0.15)),
    "walk": ((0.12, 0.0, 0.05, 0.35), (0.02, 0.55, 0.02, 0.6)),
    "wave": ((2.0, 0.1, 2.9, 0.1), (0.12, 0.1, 0.5, 0.1)),
    "talk": ((0.35, 0.3, -0.5, 0.9), (0.15, 0.2, 0.55, 0.4)),
    "hip": ((0.75, -0.1, -0.75, 0.1), (0.05, 0.05, 0.05, 0.05)),
    "dance": ((1.5, 0.2, 2.0, 0.3), (0.8, 0.3, 1.0, 0.3)),
}
ACTIONS = {  # the two arms, and how far the legs swing
    "walk": ("walk", "walk", 0.5),
    "wave": ("wave", "hang", 0.05),
    "talk": ("talk", "talk", 0.03),
    "pose": ("hip", "hang", 0.03),
    "greet": ("wave", "hip", 0.03),
    "dance": ("dance", "dance", 0.25),
}


@dataclass(frozen=True)
class Sprite:
    """A part of the body, premultiplied, and the pixels between which its joints lie."""

    pixels: Floats
    start: Points
    end: Points


@dataclass(frozen=True)
class Person:
    """What stays the same of a person for a whole clip. Angles are in radians, times in seconds."""

    head: heads.Head
    parts: dict[str, Sprite]
    unit: float  # the body's height in pixels
    build: float  # 1: average
    light: float
    action: str
    mirrored: bool
    pace: float  # radians a second
    phase: float
    yaw: tuple[float, float, float]  # middle, how far it turns, radians a second
    x: float  # of the body's middle, in pixels
    top: float  # of the crown, in pixels
    drift: tuple[float, float, float]  # how far it moves across, in pixels; radians a second; phase


def design(rng: np.random.Generator, height: int, width: int, place: tuple[float, float]) -> Person:
    """Draw a person from `rng` for a frame of `height` and `width`, standing between two fractions of the width."""
    framing = rng.choice(["whole", "knees", "waist", "head"], p=[0.3, 0.25, 0.3, 0.15])
    low, high = {"whole": (0.62, 0.95), "knees": (1.1, 1.5), "waist": (1.6, 2.2), "head": (2.4, 3.2)}[str(framing)]
    unit = height * rng.uniform(low, high)
    top = height * rng.uniform(0.03, 0.12) if framing != "whole" else (height - unit) * rng.uniform(0.3, 1.05)
    top += unit * 0.03  # hair stands over the crown
    build = rng.uniform(0.85, 1.25)
    skin = skin_tone(rng)
    turning = rng.uniform() < 0.4
    return Person(
        head=heads.design(rng, skin),
        parts=_dress(rng, unit, build, skin),
        unit=unit,
        build=build,
        light=rng.uniform(-1, 1),
        action=str(rng.choice(list(ACTIONS), p=[0.26, 0.18, 0.24, 0.1, 0.08, 0.14])),
        mirrored=bool(rng.uniform() < 0.5),
        pace=rng.uniform(4.5, 8),
        phase=rng.uniform(0, 2 * np.pi),
        yaw=(rng.normal(0, 0.35), rng.uniform(0.6, 2.2) if turning else rng.uniform(0.05, 0.3), rng.uniform(0.8, 2.2)),
        x=width * rng.uniform(*place),
        top=top,
        drift=(width * rng.uniform(0.01, 0.12), rng.uniform(0.6, 1.6), rng.uniform(0, 2 * np.pi)),
    )


def draw(canvas: Floats, person: Person, time: float, zoom: float, shift: Points) -> None:
    """Draw `person` at `time` seconds, through a camera that enlarges by `zoom` and moves by `shift` pixels."""
    yaw = person.yaw[0] + person.yaw[1] * np.sin(person.yaw[2] * time + person.phase)
    joints = _skeleton(person, yaw, time)
    cross = person.drift[0] * np.sin(person.drift[1] * time + person.drift[2])
    origin = np.array([person.x + cross, person.top])
    middle = np.array([canvas.shape[1] / 2, canvas.shape[0] / 2])
    flat = {name: (origin + person.unit * joint[:2] - middle) * zoom + middle + shift for name, joint in joints.items()}

    def bone(part: str, start: str, end: str, wide: float = 1.0) -> None:
        _bone(canvas, person.parts[part], flat[start], flat[end], zoom, wide)

    broad = abs(np.cos(yaw)) + 0.62 * abs(np.sin(yaw))
    sides = sorted(("left", "right"), key=lambda side: joints[f"{side} hip"][2] + joints[f"{side} ankle"][2])
    for side in sides:
        bone("shoe", f"{side} ankle", f"{side} toe")
        bone("shin", f"{side} knee", f"{side} ankle")
        bone("thigh", f"{side} hip", f"{side} knee")
    if "skirt" in person.parts:
        bone("skirt", "waist", "hem", broad)

    def arm(side: str) -> None:
        bone("upper arm", f"{side} shoulder", f"{side} elbow")
        bone("hand", f"{side} wrist", f"{side} fingers")
        bone("forearm", f"{side} elbow", f"{side} wrist")

    hidden = [side for side in ("left", "right") if joints[f"{side} wrist"][2] < -0.05]
    for side in hidden:
        arm(side)
    bone("torso", "neck", "crotch", broad)
    roll = 0.5 * float(np.arctan2(*(flat["skull"] - flat["neck"]) * [1, -1]))
    push = 0.2 * np.sin(person.drift[1] * time) - 0.5 * person.yaw[1] * np.cos(person.yaw[2] * time + person.phase)
    stance = heads.Stance(flat["skull"], HEAD * person.unit * zoom, roll, yaw, float(np.clip(push, -0.7, 0.7)), time)
    over_hair = np.cos(yaw) > 0
    if over_hair:
        heads.draw_hair_behind(canvas, person.head, stance, person.light)
    bone("neck", "neck", "skull")
    heads.draw(canvas, person.head, stance, person.light)
    if not over_hair:
        heads.draw_hair_behind(canvas, person.head, stance, person.light)
    for side in ("left", "right"):
        if side not in hidden:
            arm(side)


def _skeleton(person: Person, yaw: float, time: float) -> dict[str, Points]:
    """Every joint [3], turned by `yaw`."""
    cycle = person.pace * time + person.phase
    left, right, swing = ACTIONS[person.action]
    if person.mirrored:
        left, right = right, left
    bob = 0.012 * np.cos(2 * cycle) * min(1, 4 * swing)
    lean = (0.05 if person.action == "dance" else 0.015) * np.sin(cycle)
    joints = {
        "skull": np.array([1.5 * lean, HEAD, 0.015]),
        "neck": np.array([lean, 0.168, 0.0]),
        "waist": np.array([0.2 * lean, 0.4, 0.0]),
        "crotch": np.array([0.0, 0.53, 0.0]),
        "hem": np.array([0.02 * swing * np.sin(cycle), 0.66 + 0.01 * np.cos(2 * cycle), 0.0]),
    }
    for side, sign, name, phase in (("left", -1, left, 0.0), ("right", 1, right, np.pi)):
        # A leg swings against the arm of its side.
        thigh = swing * np.sin(cycle + phase)
        shin = thigh - 1.2 * swing * max(0.0, float(np.cos(cycle + phase))) - 0.05
        hip = np.array([sign * 0.052 * person.build, 0.5, 0.0])
        knee = hip + 0.225 * _direction(sign, 0.05 + 0.1 * (swing < 0.04), thigh)
        ankle = knee + 0.215 * _direction(sign, 0.02, shin)
        toe = ankle + np.array([0.022 * sign, 0.03, 0.085])
        middle, reach = ARMS[name]
        upper_side, upper_front, fore_side, fore_front = np.array(middle) - np.array(reach) * np.sin(cycle + phase)
        shoulder = np.array([sign * 0.096 * person.build + lean, 0.212, 0.0])
        elbow = shoulder + 0.17 * _direction(sign, upper_side, upper_front)
        forward = _direction(sign, fore_side, fore_front)
        wrist = elbow + 0.135 * forward
        joints |= {f"{side} hip": hip, f"{side} knee": knee, f"{side} ankle": ankle, f"{side} toe": toe}
        joints |= {f"{side} shoulder": shoulder, f"{side} elbow": elbow, f"{side} wrist": wrist}
        joints[f"{side} fingers"] = wrist + 0.085 * forward
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return {name: turn @ joint + [0, bob, 0] for name, joint in joints.items()}


def _direction(sign: int, sideways: float, forward: float) -> Points:
    """Down, turned by `sideways` away from the body and by `forward` towards where it looks."""
    down = np.cos(sideways)
    return np.array([sign * np.sin(sideways), down * np.cos(forward), abs(down) * np.sin(forward)])


def _bone(canvas: Floats, sprite: Sprite, start: Points, end: Points, zoom: float, wide: float) -> None:
    """Lay a sprite over `canvas` so that its joints come to lie on `start` and `end`."""
    along = end - start
    length = float(np.linalg.norm(along))
    direction = along / length if length > 1e-3 else np.array([0.0, 1.0])
    natural = float(np.linalg.norm(sprite.end - sprite.start))
    stretch = max(length / natural, 0.45 * zoom)  # one that points at the viewer does not get flat
    across = np.array([direction[1], -direction[0]]) * zoom * wide
    turn = np.stack([across, direction * stretch], -1)
    paste(canvas, sprite.pixels, np.column_stack([turn, start - turn @ sprite.start]))


def _dress(rng: np.random.Generator, unit: float, build: float, skin: Color) -> dict[str, Sprite]:
    """The sprites of all parts."""
    period = 0.035 * unit
    size = int(0.45 * unit) + 8
    top, bottom = cloth(rng, size, size, period), cloth(rng, size, size, period)
    bare = np.broadcast_to(np.array(skin, np.float32), (size, size, 3))
    short_sleeves, skirt = rng.uniform() < 0.45, rng.uniform() < 0.25
    legs = bare if skirt else bottom
    shoe = np.broadcast_to(np.array(any_color(rng, value=(0.05, 0.8)), np.float32), (size, size, 3))
    arm, leg = 0.5 + 0.5 * build, 0.3 + 0.7 * build
    parts = {
        "thigh": _limb(legs, unit, 0.235, 0.055 * leg, 0.038 * leg),
        "shin": _limb(legs if rng.uniform() < 0.85 else bare, unit, 0.215, 0.038 * leg, 0.026 * leg),
        "shoe": _limb(shoe, unit, 0.06, 0.028, 0.03),
        "upper arm": _limb(top, unit, 0.17, 0.033 * arm, 0.029 * arm),
        "forearm": _limb(bare if short_sleeves else top, unit, 0.135, 0.028 * arm, 0.021 * arm),
        "neck": _limb(bare * np.float32(0.85), unit, 0.09, 0.042 * arm, 0.036 * arm),
        "hand": _hand(unit, skin),
        "torso": _torso(rng, unit, build, top, skin),
    }
    if skirt:
        parts["skirt"] = _outlined(bottom, unit, 0.26, np.array([0, 0.2, 1.0]), np.array([0.09, 0.108, 0.15]) * build)
    return parts


def _limb(surface: Floats, unit: float, length: float, start: float, end: float) -> Sprite:
    """A rod, thicker at its start, with round ends; lengths are in units of the body."""
    along = np.linspace(0, np.pi, 12)
    cap = np.stack([np.cos(along), -np.sin(along)], -1)
    points = np.concatenate([cap * start, [0, length] - cap * end])
    return _sprite(surface, unit, points, length)


def _outlined(surface: Floats, unit: float, length: float, heights: Points, widths: Points) -> Sprite:
    """A part that is the same left and right, by its half widths at some heights (fractions of its length)."""
    fine = np.linspace(0, 1, 40)
    smooth = np.interp(fine, heights, widths)
    smooth[1:-1] = np.convolve(smooth, [0.25, 0.5, 0.25], "same")[1:-1]
    right = np.stack([smooth, fine * length], -1)
    return _sprite(surface, unit, np.concatenate([right, right[::-1] * [-1, 1]]), length)


def _torso(rng: np.random.Generator, unit: float, build: float, surface: Floats, skin: Color) -> Sprite:
    heights = np.array([0, 0.04, 0.08, 0.14, 0.25, 0.45, 0.65, 0.85, 1.0])
    waist = rng.uniform(0.085, 0.102)
    widths = np.array([0.034, 0.078, 0.108, 0.124, 0.122, 0.108, waist, 0.102, 0.104]) * build
    plain = _outlined(surface, unit, 0.365, heights, widths)
    picture = plain.pixels.copy()
    inner = np.zeros((*picture.shape[:2], 4), np.uint8)
    middle, first = plain.start
    depth, wide = unit * rng.uniform(0.02, 0.07), unit * rng.uniform(0.03, 0.045)
    if rng.uniform() < 0.3:  # a jacket, open over a shirt
        shirt, low = any_color(rng), first + unit * rng.uniform(0.15, 0.4)
        polygon(inner, np.array([[middle - wide, first - 4], [middle + wide, first - 4], [middle, low]]), shirt)
    neck = [[middle - wide, first - 4], [middle + wide, first - 4], [middle + wide / 2, first + depth]]
    polygon(inner, np.array([*neck, [middle - wide / 2, first + depth]]), skin)
    drawn = inner.astype(np.float32) * (picture[..., 3:] / OPAQUE)
    picture = drawn + picture * (1 - drawn[..., 3:] / OPAQUE)
    return Sprite(picture, plain.start, plain.end)


def _hand(unit: float, skin: Color) -> Sprite:
    """A palm and five fingers."""
    surface = np.broadcast_to(np.array(skin, np.float32), (8, 8, 3))
    hand = _limb(surface, unit, 0.085, 0.02, 0.02)
    picture = np.zeros((*hand.pixels.shape[:2], 4), np.uint8)
    middle, first = hand.start

    def at(points: Points) -> Points:
        return points * unit + [middle, first]

    polygon(picture, at(ellipse((0, 0.028), 0.021, 0.032, 20)), skin)
    for number, angle in enumerate((-0.7, -0.2, -0.02, 0.16, 0.34)):
        length = 0.045 if number == 0 else 0.078 - 0.006 * abs(number - 2)
        tip = np.array([np.sin(angle), np.cos(angle)]) * length
        root = np.array([0.5 * np.sin(angle), 0.3]) * 0.03
        side = np.array([np.cos(angle), -np.sin(angle)]) * 0.0055
        finger = np.array([root - side, tip - 0.7 * side, tip + 0.7 * side, root + side])
        polygon(picture, at(finger), scaled(skin, 0.94))
    return Sprite(picture.astype(np.float32), hand.start, hand.end)


def _sprite(surface: Floats, unit: float, outline: Points, length: float) -> Sprite:
    """Cut `outline` [N, 2] out of a surface and round it by shading; the joint at its start is (0, 0)."""
    low, high = outline.min(0) * unit - MARGIN, outline.max(0) * unit + MARGIN
    width, height = np.ceil(high - low).astype(int)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [fixed(outline * unit - low)], OPAQUE, cv2.LINE_AA, FRACTION_BITS)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    color = tiled(surface, height, width) * (1 - 0.3 * across**2)
    alpha = mask[..., None].astype(np.float32)
    start = -low
    end = start + np.array([0, length * unit])
    return Sprite(np.concatenate([color * (alpha / OPAQUE), alpha], -1), start, end)
