"""Hair: a mass in locks, and strands finer than a pixel that stand off it and sway.

Everything is in units of the head's half height: (0, 0) is its middle, (0, -1) the crown, (0, 1) the chin.
"""

from dataclasses import dataclass

import numpy as np

from data_pipelines.synthetic.canvas import Closeup, Color, Points, lines, polygon
from data_pipelines.synthetic.textures import any_color, hair_tone, scaled

SKULL = (0.0, -0.1, 0.76, 0.9)  # middle x and y, radius x and y
STYLES = {"bald": 0.06, "short": 0.34, "curly": 0.18, "long": 0.42}  # and how often
SHADES = (0.66, 0.84, 1.12, 1.3)  # of the strands, against the hair's own tone
KNOTS = 7  # points of a strand


@dataclass(frozen=True)
class Hair:
    """What stays the same of a person's hair for a whole clip."""

    tone: Color
    style: str
    volume: float  # how far the mass stands off the skull
    length: float  # where long hair ends
    ends: Points  # where each lock of long hair ends [number of locks]
    standing: Points  # strands that stand off the head [N, KNOTS, 2]
    lying: Points  # strands that lie on it, drawn as streaks
    falling: Points  # strands of long hair
    phases: Points  # of the strands' sway [more than there are strands]


def design(rng: np.random.Generator) -> Hair:
    """Draw hair from `rng`."""
    style = str(rng.choice(list(STYLES), p=list(STYLES.values())))
    low, high = {"bald": (0.0, 0.0), "short": (0.03, 0.16), "curly": (0.2, 0.6), "long": (0.08, 0.24)}[style]
    volume, length = rng.uniform(low, high), rng.uniform(0.9, 3.2)
    return Hair(
        tone=hair_tone(rng) if rng.uniform() < 0.94 else any_color(rng, (0.4, 0.8)),
        style=style,
        volume=volume,
        length=length,
        ends=length * rng.uniform(0.82, 1.1, 13),
        standing=_standing(rng, style, volume),
        lying=_lying(rng, style, volume),
        falling=_falling(rng, volume, length),
        phases=rng.uniform(0, 2 * np.pi, 400),
    )


def behind(place: Closeup, hair: Hair, push: float, time: float) -> None:
    """Long hair below the head. `push` moves its ends sideways."""
    middles = (SKULL[2] + hair.volume) * np.linspace(-1, 1, len(hair.ends))
    half = 1.7 * (middles[1] - middles[0])
    sides = np.array([-0.6, -1.0, -0.2, 0.2, 1.0, 0.6]) * half  # a lock ends in a point
    for number in np.argsort(-np.abs(middles)):  # from the outside in
        end, spread = hair.ends[number], middles[number] * np.array([0.85, 1.05, 1.12, 1.12, 1.05, 0.85])
        top = -0.6 * np.cos(0.5 * np.pi * middles[number] / middles[-1])
        lock = np.stack([sides + spread, np.array([top, 0.6 * end, end, end, 0.6 * end, top])], -1)
        lock[:, 0] += (push + 0.06 * np.sin(4 * time + hair.phases[number])) * _give(lock[:, 1], hair.length)
        polygon(place.pixels, place(lock), scaled(hair.tone, 0.72 + 0.12 * (number % 3)))
    falling = _swaying(hair.falling, hair.phases, time)
    falling[..., 0] += push * _give(falling[..., 1], hair.length)
    _strands(place, falling, hair.tone)


def halo(place: Closeup, hair: Hair, push: float, time: float) -> None:
    """What is seen behind the skull: strands that stand off it, half transparent, and the mass of curly hair."""
    standing = _swaying(hair.standing, hair.phases, time)
    standing[..., 0] += 0.3 * push * np.linspace(0, 1, KNOTS) ** 2
    _strands(place, standing, hair.tone, opacity=0.7)
    if hair.style == "curly":
        angle = np.linspace(-np.pi, np.pi, 120)
        bumps = 0.04 * np.sin(21 * angle + hair.phases[0]) + 0.03 * np.sin(34 * angle + hair.phases[1])
        outline = _around(angle, hair.volume + bumps)
        outline[:, 1] -= 0.4 * np.maximum(outline[:, 1], 0)  # it ends above the shoulders
        polygon(place.pixels, place(outline), scaled(hair.tone, 0.85))


def cap(place: Closeup, hair: Hair, yaw: float) -> None:
    """The mass on the skull, before the face is drawn into it."""
    down = 1.75 if np.cos(yaw) > 0 and hair.style != "long" else 2.4  # at the back it goes down to the neck
    volume = hair.volume * (0.6 if hair.style == "curly" else 1)
    polygon(place.pixels, place(_around(np.linspace(-down, down, 40), volume)), hair.tone)


def streaks(place: Closeup, hair: Hair, yaw: float) -> None:
    """Strands of the mass, on top of it; none that would hang over a face that is turned to the viewer."""
    middle = hair.lying[:, KNOTS // 2]
    on_face = (
        (np.cos(yaw) > 0) & (np.abs(middle[:, 0] - 0.7 * np.sin(yaw)) < 0.75) & (hair.lying[..., 1].max(1) > -0.35)
    )
    _strands(place, hair.lying[~on_face], hair.tone)


def _give(height: Points, length: float) -> Points:
    """How far hair at `height` follows a push: not at all at the root, fully at the ends."""
    return np.clip((height + 0.2) / (length + 0.2), 0, 1.3) ** 1.5


def _around(angle: Points, swell: float | Points) -> Points:
    """Points [..., 2] at `angle` from straight up on the skull's outline, `swell` off it."""
    x = SKULL[0] + (SKULL[2] + swell) * np.sin(angle)
    return np.stack([x, SKULL[1] - (SKULL[3] + swell) * np.cos(angle)], -1)


def _strands(place: Closeup, curves: Points, tone: Color, opacity: float = 1.0) -> None:
    points = place(curves)
    for number, shade in enumerate(SHADES):
        lines(place.pixels, points[number :: len(SHADES)], scaled(tone, shade), opacity=opacity)


def _swaying(strands: Points, phases: Points, time: float) -> Points:
    """Every strand a little for itself."""
    s = np.linspace(0, 1, KNOTS)[None] ** 1.5
    own = 0.04 * np.sin(5 * time + phases[: len(strands)])[:, None] * s
    return strands + np.stack([own, 0.4 * own], -1)


def _standing(rng: np.random.Generator, style: str, volume: float) -> Points:
    count = {"bald": 0, "short": 300, "curly": 360, "long": 220}[style]
    angle = rng.uniform(-1.9, 1.9, (count, 1))
    length = 0.36 * rng.uniform(0.2, 1, (count, 1)) ** 2
    s = np.linspace(0, 1, KNOTS)[None]
    lean = angle + rng.normal(0, 0.8, (count, 1)) * (0.4 + s)  # where it points, bending on the way
    curl = rng.uniform(0.03, 0.08, (count, 1)) * s * (style == "curly")
    turn = 9 * s + rng.uniform(0, 6, (count, 1))
    x = length * s * np.sin(lean) + curl * np.cos(turn)
    y = length * s * -np.cos(lean) + curl * np.sin(turn) + 0.6 * length * s**2
    return _around(angle, 0.85 * volume) + np.stack([x, y], -1)


def _lying(rng: np.random.Generator, style: str, volume: float) -> Points:
    """From a parting outward."""
    count = {"bald": 0, "short": 60, "curly": 120, "long": 70}[style]
    parting, end = rng.uniform(-0.5, 0.5), rng.uniform(-1.75, 1.75, (count, 1))
    angle = parting + (end - parting) * np.linspace(0, 1, KNOTS)[None]
    inside = rng.uniform(0.4, 1, (count, 1))  # 1: on the outline
    points = _around(angle, volume)
    points = np.stack([points[..., 0] * inside, SKULL[1] + (points[..., 1] - SKULL[1]) * inside], -1)
    return points + rng.normal(0, 0.05 if style == "curly" else 0.01, points.shape)


def _falling(rng: np.random.Generator, volume: float, length: float, count: int = 150) -> Points:
    s = np.linspace(0, 1, KNOTS)[None]
    across = rng.uniform(-1, 1, (count, 1))
    stray = 0.4 * rng.uniform(0, 1, (count, 1)) ** 3 * np.sign(across)
    x = across * (SKULL[2] + volume + 0.08) + (stray + 0.14 * across) * s
    y = -0.3 + (length * rng.uniform(0.7, 1.15, (count, 1)) + 0.3) * s
    wave = 0.08 * rng.uniform(0, 1) * np.sin(7 * s + rng.uniform(0, 6, (count, 1)))
    return np.stack([x + wave, y], -1)
