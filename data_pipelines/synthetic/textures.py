"""Colours and surfaces: skin, hair, cloth, and the noise that keeps every surface from being flat."""

import colorsys

import cv2
import numpy as np

from data_pipelines.synthetic.canvas import Color, Floats

# From light to dark, and from black over brown and red to blond and white.
SKIN = np.array([(252, 222, 198), (238, 194, 160), (216, 162, 122), (178, 122, 84), (130, 84, 56), (84, 52, 38)])
HAIR = np.array(
    [(20, 17, 18), (48, 32, 24), (92, 60, 38), (140, 74, 40), (196, 156, 98), (226, 200, 150), (200, 198, 196)]
)


def skin_tone(rng: np.random.Generator) -> Color:
    return _between(SKIN, rng)


def hair_tone(rng: np.random.Generator) -> Color:
    return _between(HAIR, rng)


def _between(anchors: Floats, rng: np.random.Generator) -> Color:
    """A colour on the way between two neighbouring anchors."""
    place = rng.uniform(0, len(anchors) - 1)
    low = int(place)
    return scaled(anchors[low] + (place - low) * (anchors[low + 1] - anchors[low]), rng.uniform(0.92, 1.06))


def any_color(
    rng: np.random.Generator, saturation: tuple[float, float] = (0, 0.8), value: tuple[float, float] = (0.1, 0.95)
) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    return 255 * red, 255 * green, 255 * blue


def scaled(color: Color | Floats, factor: float) -> Color:
    """Lighter or darker."""
    red, green, blue = (float(min(255, max(0, factor * channel))) for channel in color)
    return red, green, blue


def clouds(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3) -> Floats:
    """Smooth noise [height, width] of about -1 to 1, with blobs of `cell` pixels and finer ones."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        coarse = rng.uniform(-1, 1, (int(height / size) + 2, int(width / size) + 2)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total


def grain(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Noise [height, width, 1] of each pixel for itself, with a deviation of 1."""
    return rng.standard_normal((height, width, 1), np.float32)


def cloth(rng: np.random.Generator, height: int, width: int, period: float) -> Floats:
    """A piece of cloth [height, width, 3] of 0..255, its pattern repeating about every `period` pixels."""
    first = any_color(rng, (0, rng.uniform(0.2, 0.8)))
    second = scaled(first, float(rng.choice([0.6, 1.5])))
    if rng.uniform() < 0.6:
        second = any_color(rng, (0, rng.uniform(0.2, 0.8)))
    period = max(period * rng.uniform(0.6, 1.6), 4.0)
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(2 * np.pi / period)
    match rng.choice(["plain", "across", "along", "checks", "dots", "mottled"], p=[0.3, 0.18, 0.12, 0.16, 0.1, 0.14]):
        case "across":
            share = _edges(np.sin(y) + rng.uniform(-0.6, 0.6), period)
        case "along":
            share = _edges(np.sin(x) + rng.uniform(-0.6, 0.6), period)
        case "checks":
            share = 0.5 * _edges(np.sin(x), period) + 0.5 * _edges(np.sin(y), period)
        case "dots":
            share = _edges(np.sin(x) * np.sin(y) - 0.5, period)
        case "mottled":
            share = np.clip(0.5 + 0.6 * clouds(rng, height, width, period), 0, 1)
        case _:
            share = np.zeros_like(x)
    contrast = np.array(second, np.float32) - np.array(first, np.float32)
    picture = np.array(first, np.float32) + share[..., None] * contrast
    folds = 1 + 0.12 * clouds(rng, height, width, 5 * period, 2) + 0.03 * grain(rng, height, width)[..., 0]
    return np.clip(picture * folds[..., None], 0, 255)


def _edges(wave: Floats, period: float) -> Floats:
    """A wave as bands of 0 and 1 whose edges are one or two pixels wide."""
    return np.clip(0.5 + wave * (period / 8), 0, 1)


def tiled(surface: Floats, height: int, width: int) -> Floats:
    """As much of a surface [h, w, 3] as asked for, mirrored at its ends, so that there are no seams."""
    rows, columns = (
        np.pad(np.arange(size), (0, max(wanted - size, 0)), "reflect")[:wanted]
        for size, wanted in zip(surface.shape, (height, width), strict=False)
    )
    return surface[rows][:, columns]
