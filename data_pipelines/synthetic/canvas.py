"""Drawing with soft edges: pictures of premultiplied RGBA, laid over each other.

OpenCV's antialiased polygons and lines mix all four channels alike, so what is drawn with an alpha of 255 on an empty
picture comes out premultiplied, and averaging such a picture down keeps it so. Coordinates are (x, y) in pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

Pixels = np.ndarray  # of uint8, 0..255
Floats = np.ndarray  # of float32, 0..255 as well
Points = np.ndarray  # [..., 2] of float64
Color = tuple[float, float, float]  # red, green, blue of 0..255

FRACTION_BITS = 4  # OpenCV takes coordinates as integers with this many bits behind the point
OPAQUE = 255


def fixed(points: Points) -> np.ndarray:
    """`points` [..., 2] as OpenCV wants them."""
    return np.round(np.asarray(points) * (1 << FRACTION_BITS)).astype(np.int32)


def polygon(picture: Pixels, points: Points, color: Color) -> None:
    """Fill the polygon `points` [N, 2]."""
    cv2.fillPoly(picture, [fixed(points)], (*color, OPAQUE), cv2.LINE_AA, FRACTION_BITS)


def lines(picture: Pixels, strokes: Points, color: Color, thickness: int = 1, opacity: float = 1.0) -> None:
    """Draw the open lines `strokes` [number of lines, N, 2]; those that are not opaque, where nothing is drawn yet."""
    ink = tuple(opacity * channel for channel in (*color, OPAQUE))
    cv2.polylines(picture, list(fixed(strokes)), False, ink, thickness, cv2.LINE_AA, FRACTION_BITS)


def ellipse(centre: tuple[float, float], radius_x: float, radius_y: float, count: int = 32) -> Points:
    """The outline [count, 2] of an upright ellipse."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius_x * np.cos(angle), centre[1] + radius_y * np.sin(angle)], -1)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def over(canvas: Floats, layer: Floats, left: int, top: int) -> None:
    """Lay `layer` [h, w, 4] over `canvas` [H, W, 4] in place; what lies outside is cut off. Both are premultiplied."""
    height, width = canvas.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + layer.shape[1], width), min(top + layer.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    part = layer[y0 - top : y1 - top, x0 - left : x1 - left]
    below = canvas[y0:y1, x0:x1]
    below *= repeated(1 - part[..., 3] / np.float32(OPAQUE), 4)
    below += part


def paste(canvas: Floats, sprite: Floats, matrix: Points) -> None:
    """Lay `sprite` [h, w, 4] over `canvas` in place, where `matrix` [2, 3] moves it."""
    height, width = sprite.shape[:2]
    corners = rectangle(0, 0, width, height) @ matrix[:, :2].T + matrix[:, 2]
    low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0)) + 1, canvas.shape[1::-1]).astype(int)
    if (low >= high).any():
        return
    shifted = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    over(canvas, cv2.warpAffine(sprite, shifted, size, flags=cv2.INTER_LINEAR), int(low[0]), int(low[1]))


@dataclass(frozen=True)
class Closeup:
    """An empty picture of a part of the frame, finer than the frame, in coordinates of its own."""

    pixels: Pixels
    matrix: Points  # from its coordinates to its pixels
    corner: tuple[int, int]  # where it lies in the frame
    fine: int

    def __call__(self, points: Points) -> Points:
        """Pixels of `points` [..., 2]."""
        return np.asarray(points) @ self.matrix[:, :2].T + self.matrix[:, 2]


def closeup(origin: Points, unit: float, roll: float, box: tuple[float, float, float, float]) -> Closeup:
    """A close-up whose `origin` lies at that pixel of the frame, with a unit of `unit` pixels, turned by `roll`.

    `box` is what it must hold, left, top, right and bottom in its own units, turned already.
    """
    fine = 3 if unit < 30 else 2
    left, top = int(np.floor(origin[0] + box[0] * unit)), int(np.floor(origin[1] + box[1] * unit))
    width, height = int((box[2] - box[0]) * unit) + 2, int((box[3] - box[1]) * unit) + 2
    turn = unit * fine * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    offset = (np.asarray(origin) - (left, top)) * fine
    pixels = np.zeros((height * fine, width * fine, 4), np.uint8)
    return Closeup(pixels, np.column_stack([turn, offset]), (left, top), fine)


def settle(canvas: Floats, drawn: Closeup, light: float) -> None:
    """Average a close-up down to the frame's size, and lay it over `canvas`.

    One side gets darker: the left one where `light` is 1, the right one where it is -1.
    """
    height, width = drawn.pixels.shape[0] // drawn.fine, drawn.pixels.shape[1] // drawn.fine
    small = cv2.resize(drawn.pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    small[..., :3] *= np.linspace(1 - 0.35 * light, 1 + 0.35 * light, width, dtype=np.float32).clip(0, 1)[:, None]
    over(canvas, small, *drawn.corner)


def straight(canvas: Floats) -> tuple[Pixels, Pixels]:
    """Split a premultiplied `canvas` [H, W, 4] into colour [H, W, 3] and alpha [H, W, 1].

    Where alpha is small, dividing by it would blow up rounding errors, and where it is 0 there is nothing to divide.
    The colours of the neighbourhood are mixed in with so little weight that they count just there: so colour goes on
    outward.
    """
    height, width = canvas.shape[:2]
    near = cv2.blur(canvas, (5, 5))
    small = cv2.resize(canvas, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    far = cv2.resize(cv2.blur(small, (9, 9)) + 1e-3 * small.mean((0, 1)), (width, height))
    mixed = cv2.scaleAdd(far, 1e-3, cv2.scaleAdd(near, 0.1, canvas)) + np.float32(1e-9)
    color = cv2.cvtColor(mixed, cv2.COLOR_RGBA2RGB) * repeated(OPAQUE / mixed[..., 3], 3)
    return quantised(color), quantised(canvas[..., 3:])


def repeated(plane: Floats, channels: int) -> Floats:
    """A plane [h, w] as [h, w, channels]. NumPy would take several times as long to multiply by the plane itself."""
    return cv2.merge([plane] * channels)


def quantised(picture: Floats) -> Pixels:
    """Rounded to the nearest of 0..255."""
    return np.clip(np.rint(picture), 0, OPAQUE).astype(np.uint8)
