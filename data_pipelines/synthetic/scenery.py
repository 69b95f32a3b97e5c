"""What backgrounds show: rooms, outdoor places and abstract clutter, with no people in them.

The things share colours, cloth and round shapes with people, so that neither colour nor texture alone tells them apart.
"""

from itertools import pairwise

import cv2
import numpy as np

from data_pipelines.synthetic.canvas import (
    FRACTION_BITS,
    OPAQUE,
    Color,
    Floats,
    Pixels,
    Points,
    ellipse,
    fixed,
    quantised,
    rectangle,
)
from data_pipelines.synthetic.textures import any_color, cloth, clouds, scaled, skin_tone, tiled


def fill(picture: Pixels, points: Points, color: Color) -> None:
    """Fill the polygon `points` [N, 2] of an RGB picture."""
    cv2.fillPoly(picture, [fixed(points)], color, cv2.LINE_AA, FRACTION_BITS)


def blob(rng: np.random.Generator, x: float, y: float, size: float) -> Points:
    """A wobbly outline around (x, y)."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = size / 2 * (1 + sum(rng.uniform(0, 0.35) / n * np.sin(n * angle + rng.uniform(0, 6)) for n in range(1, 6)))
    return np.stack([x + radius * np.cos(angle) * rng.uniform(0.5, 1.2), y + radius * np.sin(angle)], -1)


def _cover(picture: Pixels, points: Points, surface: Floats) -> None:
    """Fill a polygon with a surface [h, w, 3], tiled from the corner of its box or of the picture."""
    low = np.maximum(np.floor(points.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0)) + 1, picture.shape[1::-1]).astype(int)
    if (low >= high).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [fixed(points - low)], OPAQUE, cv2.LINE_AA, FRACTION_BITS)
    part = picture[low[1] : high[1], low[0] : high[0]]
    share = mask[..., None] / np.float32(OPAQUE)
    part[:] = quantised(part + share * (tiled(surface, *mask.shape) - part))


def _wood(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Boards in the tones of wood, which are those of skin."""
    tone = np.array(scaled(skin_tone(rng), 0.9), np.float32)
    veins = clouds(rng, max(height // 12, 2), width, 6)
    veins = cv2.resize(veins, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(tone * (1 + 0.16 * veins[..., None]), 0, 255)


def _surface(rng: np.random.Generator, size: int) -> Floats:
    """Cloth, wood or paint."""
    match rng.integers(3):
        case 0:
            return cloth(rng, size, size, size * rng.uniform(0.08, 0.3))
        case 1:
            return _wood(rng, size, size)
        case _:
            paint = np.array(any_color(rng, (0, 0.5)), np.float32)
            return paint * (1 + 0.1 * clouds(rng, size, size, size / 2)[..., None])


def _slope(top: Color, bottom: Color, height: int, width: int) -> Floats:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    colors = np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share
    return np.repeat(colors, width, axis=1)


def room(rng: np.random.Generator, height: int, width: int) -> Pixels:
    wall = any_color(rng, (0, 0.35), (0.35, 0.95))
    picture = _slope(wall, scaled(wall, rng.uniform(0.7, 1.05)), height, width)
    if rng.uniform() < 0.3:  # wallpaper or bricks
        picture = 0.75 * picture + 0.25 * cloth(rng, height, width, height * rng.uniform(0.04, 0.12))
    scene = quantised(picture)
    floor = height * rng.uniform(0.68, 0.95)
    _cover(scene, rectangle(-1, floor, width + 1, height + 1), _surface(rng, height // 2))
    fill(scene, rectangle(-1, floor - 0.02 * height, width + 1, floor), scaled(wall, 1.15))
    things = (_shelf, _window, _painting, _lamp, _seat, _plant, _curtain, _coat_rack)
    for _ in range(rng.integers(3, 8)):
        things[rng.integers(len(things))](rng, scene, rng.uniform(0, width), floor, height * rng.uniform(0.7, 1.2))
    return scene


def _shelf(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """Boards full of books."""
    wide, top = size * rng.uniform(0.2, 0.45), floor - size * rng.uniform(0.4, 0.7)
    _cover(picture, rectangle(x - wide / 2, top, x + wide / 2, floor), _wood(rng, 64, 64))
    boards = np.linspace(top, floor, rng.integers(3, 6))
    for upper, lower in pairwise(boards):
        fill(picture, rectangle(x - 0.46 * wide, upper + 3, x + 0.46 * wide, lower - 2), (46.0, 38.0, 34.0))
        at = x - 0.45 * wide
        while at < x + 0.4 * wide:
            thick, tall = size * rng.uniform(0.01, 0.03), (lower - upper) * rng.uniform(0.5, 0.9)
            if rng.uniform() < 0.85:
                fill(picture, rectangle(at, lower - tall, at + thick, lower - 2), any_color(rng))
            at += thick + 1


def _window(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    wide, tall, top = size * rng.uniform(0.2, 0.4), size * rng.uniform(0.3, 0.45), floor - size * rng.uniform(0.6, 0.75)
    frame = rectangle(x - wide / 2 - 4, top - 4, x + wide / 2 + 4, top + tall + 4)
    fill(picture, frame, scaled((235, 232, 225), rng.uniform(0.4, 1)))
    sky = _slope((170, 205, 240), any_color(rng, (0, 0.4), (0.4, 0.9)), int(tall) + 2, int(wide) + 2)
    for column in range(2):
        left = x - wide / 2 + column * wide / 2
        _cover(picture, rectangle(left + 1, top, left + wide / 2 - 2, top + tall), sky)


def _painting(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    wide, tall, top = *(size * rng.uniform(0.1, 0.28, 2)), floor - size * rng.uniform(0.55, 0.75)
    frame = rectangle(x - wide / 2 - 3, top - 3, x + wide / 2 + 3, top + tall + 3)
    fill(picture, frame, any_color(rng, (0, 0.5), (0.1, 0.6)))
    _cover(picture, rectangle(x - wide / 2, top, x + wide / 2, top + tall), _surface(rng, 96))
    for _ in range(3):
        spot = blob(rng, x + wide * rng.uniform(-0.3, 0.3), top + tall * rng.uniform(0.3, 0.7), 0.4 * min(wide, tall))
        fill(picture, spot, any_color(rng))


def _lamp(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """A stand with a round or a pointed shade: as tall as a person, and with something like a head."""
    top, half = floor - size * rng.uniform(0.45, 0.75), size * rng.uniform(0.05, 0.1)
    fill(picture, rectangle(x - 0.012 * size, top, x + 0.012 * size, floor), (60.0, 56.0, 52.0))
    fill(picture, ellipse((x, floor), half, 0.25 * half), (50.0, 46.0, 42.0))
    shade = any_color(rng, (0, 0.4), (0.7, 1))
    if rng.uniform() < 0.5:
        fill(picture, ellipse((x, top), half, half), shade)
    else:
        fill(picture, np.array([[-0.5, -1], [0.5, -1], [1, 1], [-1, 1]]) * half + [x, top], shade)


def _seat(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """A sofa or an armchair, covered in cloth as people are."""
    wide, tall = size * rng.uniform(0.25, 0.7), size * rng.uniform(0.25, 0.4)
    cover = cloth(rng, 128, 128, size * rng.uniform(0.02, 0.08))
    low = floor + 0.08 * size
    round_top = ellipse((x, low - tall), 0.46 * wide, 0.2 * tall, 24)[12:]
    back = np.concatenate([round_top, [[x + 0.46 * wide, low], [x - 0.46 * wide, low]]])
    _cover(picture, back, cover * np.float32(0.8))
    _cover(picture, rectangle(x - 0.45 * wide, low - 0.45 * tall, x + 0.45 * wide, low), cover)
    for side in (-1, 1):
        arm = ellipse((x + 0.46 * side * wide, low - 0.3 * tall), 0.07 * wide, 0.35 * tall)
        _cover(picture, arm, cover * np.float32(0.9))


def _plant(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """Leaves that stand off in all directions: thin things that are not hair."""
    pot, top = size * rng.uniform(0.04, 0.08), floor - size * rng.uniform(0.15, 0.3)
    green = any_color(rng, (0.3, 0.7), (0.2, 0.6))
    green = (0.5 * green[0], max(green), 0.5 * green[2])
    for _ in range(rng.integers(14, 40)):
        angle, length = rng.normal(0, 0.8), size * rng.uniform(0.08, 0.3)
        tip = np.array([x + length * np.sin(angle), top - length * np.cos(angle)])
        side = size * rng.uniform(0.004, 0.025) * np.array([np.cos(angle), np.sin(angle)])
        middle = (tip + np.array([x, top])) / 2
        fill(picture, np.array([[x, top], middle - side, tip, middle + side]), scaled(green, rng.uniform(0.6, 1.3)))
    clay = np.array([[x - pot, top], [x + pot, top], [x + 0.7 * pot, floor], [x - 0.7 * pot, floor]])
    fill(picture, clay, scaled(skin_tone(rng), 0.85))


def _curtain(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    wide, top = size * rng.uniform(0.12, 0.35), floor - size
    cover = cloth(rng, 160, 160, size * rng.uniform(0.02, 0.06))
    folds = 1 + 0.25 * np.sin(np.arange(160, dtype=np.float32) * np.float32(rng.uniform(0.2, 0.5)))
    _cover(picture, rectangle(x - wide / 2, top, x + wide / 2, floor), np.clip(cover * folds[:, None], 0, 255))


def _coat_rack(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """Clothes with nobody in them."""
    top = floor - size * rng.uniform(0.45, 0.7)
    fill(picture, rectangle(x - 0.01 * size, top, x + 0.01 * size, floor), (70.0, 52.0, 40.0))
    half, tall = size * rng.uniform(0.05, 0.1), size * rng.uniform(0.2, 0.35)
    coat = np.array([[0, 0.02], [0.7, 0.1], [1, 0.5], [0.9, 1], [-0.9, 1], [-1, 0.5], [-0.7, 0.1]]) * [half, tall]
    _cover(picture, coat + np.array([x, top]), cloth(rng, 96, 96, size * rng.uniform(0.02, 0.05)))


def outdoors(rng: np.random.Generator, height: int, width: int) -> Pixels:
    horizon = height * rng.uniform(0.35, 0.75)
    sky = _slope(any_color(rng, (0.1, 0.6), (0.6, 0.95)), any_color(rng, (0, 0.3), (0.75, 1)), height, width)
    sky += 14 * np.maximum(clouds(rng, height, width, height / 3, 4), 0)[..., None]
    scene = quantised(sky)
    for layer in range(rng.integers(1, 4)):  # hills
        x = np.linspace(0, width, 60)
        rise = 0.6 + 0.4 * np.sin(x / width * rng.uniform(3, 12) + rng.uniform(0, 6))
        y = horizon - height * ((0.22 - 0.07 * layer) * rise + 0.01 * rng.normal(size=60))
        slopes = np.concatenate([np.stack([x, y], -1), [[width, height], [0, height]]])
        _cover(scene, slopes, _soil(rng, 128, 128, 12))
    ground = _soil(rng, height, width, 24)
    _cover(scene, rectangle(-1, horizon, width + 1, height + 1), ground)
    things = (_house, _tree, _tree, _post, _plant)
    for depth in np.sort(rng.uniform(0, 1, rng.integers(3, 10))):  # from far to near
        foot = horizon + depth * 0.35 * (height - horizon)
        size = height * (0.4 + 0.8 * depth)
        things[rng.integers(len(things))](rng, scene, rng.uniform(0, width), foot, size)
    return scene


def _soil(rng: np.random.Generator, height: int, width: int, cell: float) -> Floats:
    """Grass, sand or rock."""
    color = np.array(any_color(rng, (0, 0.5), (0.25, 0.7)), np.float32)
    return color * (1 + 0.22 * clouds(rng, height, width, cell, 4)[..., None])


def _house(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    wide, tall = size * rng.uniform(0.25, 0.6), size * rng.uniform(0.3, 0.9)
    _cover(picture, rectangle(x - wide / 2, floor - tall, x + wide / 2, floor), _surface(rng, 96))
    glass = any_color(rng, (0, 0.4), (0.2, 0.9))
    columns, rows = int(rng.integers(2, 6)), int(rng.integers(2, 7))
    for column in range(columns):
        for row in range(rows):
            left, top = x - wide / 2 + (column + 0.25) * wide / columns, floor - tall + (row + 0.25) * tall / rows
            pane = rectangle(left, top, left + 0.5 * wide / columns, top + 0.5 * tall / rows)
            fill(picture, pane, scaled(glass, rng.uniform(0.7, 1.2)))


def _tree(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """A trunk and a crown of leaves, frayed as hair is."""
    tall, crown = size * rng.uniform(0.35, 0.6), size * rng.uniform(0.1, 0.25)
    fill(picture, rectangle(x - 0.08 * crown, floor - tall, x + 0.1 * crown, floor), scaled(skin_tone(rng), 0.5))
    leaf = any_color(rng, (0.3, 0.7), (0.2, 0.6))
    leaf = (0.7 * leaf[0], max(leaf), 0.4 * leaf[2])
    for _ in range(70):
        angle, radius = rng.uniform(0, 6.3), crown * rng.uniform(0, 1) ** 0.5
        middle = (x + radius * np.cos(angle), floor - tall + radius * np.sin(angle))
        spot = ellipse(middle, crown * rng.uniform(0.05, 0.2), crown * rng.uniform(0.05, 0.2), 8)
        fill(picture, spot, scaled(leaf, rng.uniform(0.6, 1.3)))


def _post(rng: np.random.Generator, picture: Pixels, x: float, floor: float, size: float) -> None:
    """A road sign or a street lamp."""
    tall, half = size * rng.uniform(0.4, 0.8), size * rng.uniform(0.03, 0.08)
    fill(picture, rectangle(x - 0.01 * size, floor - tall, x + 0.01 * size, floor), (95.0, 95.0, 98.0))
    shape = ellipse((x, floor - tall), half, half, int(rng.choice([3, 4, 8, 32])))
    fill(picture, shape, any_color(rng, (0.2, 0.9), (0.4, 1)))


def abstract(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A gradient under cloth, boards, round and wobbly shapes of any colour."""
    picture = _slope(any_color(rng), any_color(rng), height, width)
    picture *= 1 + rng.uniform(0, 0.3) * clouds(rng, height, width, height * rng.uniform(0.1, 0.5), 4)[..., None]
    clutter = quantised(picture)
    for _ in range(rng.integers(4, 16)):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), height * rng.uniform(0.08, 0.5)
        shape = blob(rng, x, y, size)
        if rng.uniform() < 0.4:
            turn = rng.uniform(0, np.pi)
            corners = rectangle(-0.5, -0.5, 0.5, 0.5) * size * rng.uniform(0.3, 1.3, 2)
            shape = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + [x, y]
        if rng.uniform() < 0.5:
            _cover(clutter, shape, _surface(rng, 96))
        else:
            fill(clutter, shape, skin_tone(rng) if rng.uniform() < 0.35 else any_color(rng))
    return clutter
