"""Motion augmentation: affine movement, crops and pauses; where each pixel of each frame comes from.

All that moves a picture - two moving affines, a still one, crop, flip and the step's shape - is composed into one
matrix a frame, so that a pixel is interpolated once. The published recipe resamples up to four times in a row. The one
visible difference: there, what an affine moved out of the picture is gone (black, or transparent) when the next one
zooms out; here it comes back.

Coordinates are continuous: the centre of the first pixel is (0.5, 0.5).
"""

import math

import cv2
import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, width and height in a picture."""

UNMOVED = (0.0, 0.0, 0.0, 1.0, 0.0)
"""A pose: degrees, translation in x and y as parts of width and height, scale, x-shear in degrees."""


def affine(poses: np.ndarray, width: int, height: int) -> np.ndarray:
    """Poses [..., 5] as matrices [..., 3, 3] that move a picture of this size about its centre.

    It is scaled, then sheared, then turned (clockwise on the screen), then shifted.
    """
    degrees, x, y, scale, shear = np.moveaxis(np.asarray(poses, np.float64), -1, 0)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    slant = np.tan(np.radians(shear))
    linear = np.stack([cos, cos * slant - sin, sin, sin * slant + cos], -1) * scale[..., None]
    linear = linear.reshape(*scale.shape, 2, 2)
    centre = np.array([width / 2, height / 2])
    matrix = np.zeros((*scale.shape, 3, 3))
    matrix[..., :2, :2] = linear
    matrix[..., :2, 2] = centre - linear @ centre + np.stack([x * width, y * height], -1)
    matrix[..., 2, 2] = 1
    return matrix


def crop(box: Box, flip: bool, height: int, width: int) -> np.ndarray:
    """Where the pixels of the step's picture lie in the source: a matrix [3, 3] from output to source coordinates.

    The box (left, top, width, height) of the source is squashed to a square of side max(height, width), mirrored if
    `flip`, and cut to height × width around its centre.
    """
    left, top, box_width, box_height = box
    side = max(height, width)
    x, y = box_width / side, box_height / side
    matrix = np.array(
        [[x, 0, left + x * (side - width) / 2], [0, y, top + y * (side - height) / 2], [0, 0, 1]], np.float64
    )
    return matrix @ np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) if flip else matrix


def centre_box(width: int, height: int, aspect: float) -> Box:
    """The largest box of this aspect (width by height) in the middle of a picture."""
    box_width, box_height = min(width, height * aspect), min(height, width / aspect)
    return (width - box_width) / 2, (height - box_height) / 2, box_width, box_height


def fitting_box(width: int, height: int, shown_height: int, shown_width: int) -> Box:
    """The square, perhaps larger than the picture, of which `crop` shows what the picture can fill, and no less."""
    side = max(shown_height, shown_width) * min(width / shown_width, height / shown_height)
    return (width - side) / 2, (height - side) / 2, side, side


def random_box(width: int, height: int, area: float, aspect: float, corner: np.ndarray) -> Box:
    """A box of this aspect over this part of the picture's area (less if it would not fit); `corner` [2] places it."""
    box_width, box_height = math.sqrt(area * width * height * aspect), math.sqrt(area * width * height / aspect)
    fit = min(1.0, width / box_width, height / box_height)
    box_width, box_height = box_width * fit, box_height * fit
    return (width - box_width) * float(corner[0]), (height - box_height) * float(corner[1]), box_width, box_height


def reduction(inverse: np.ndarray) -> int:
    """By how much a source may be reduced before it is warped, without becoming coarser than the result: 1, 2, 4 or 8.

    Warping interpolates between the four nearest pixels, so what is shrunk by more than two would lose pixels in
    between.
    """
    scale = np.sqrt(np.abs(np.linalg.det(inverse[..., :2, :2]))).min()
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or factor <= scale)


def warp(picture: np.ndarray, inverse: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture uint8 [H, W] or [H, W, C] seen through `inverse` [3, 3], output to source; outside is 0."""
    to_index = inverse[:2] @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]) - [[0, 0, 0.5]]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, to_index, (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT)
