"""The pixels of stills, from their plans: NumPy and OpenCV alone, since worker processes make them."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from data_pipelines.augment import color, motion
from data_pipelines.pipelines import matting_pixels
from data_pipelines.pipelines.samples import Plan
from data_pipelines.records.clips import Clips

UNKNOWN = 128


def with_trimap(plan: Plan, foregrounds: Clips, backgrounds: Clips, size: int, out: Sequence[np.ndarray]) -> None:
    """Foreground, alpha, background and trimap, uint8 [1, h, w, 3 or 1]."""
    matting_pixels.render(plan, foregrounds, backgrounds, size, out=out[:3])
    out[3][0, :, :, 0] = trimap(out[1][0, :, :, 0], int(plan["unknown"]))


def with_plate(plan: Plan, foregrounds: Clips, backgrounds: Clips, size: int, out: Sequence[np.ndarray]) -> None:
    """Source, foreground, alpha and plate, uint8 [1, h, w, 3 or 1]."""
    source, foreground, alpha, plate = out
    matting_pixels.render(plan, foregrounds, backgrounds, size, out=[foreground, alpha, plate])
    background = plate[0]
    scene = shaded(background, alpha[0, :, :, 0], plan["shadow"], size)
    shown = matting_pixels.composite(foreground[0], alpha[0], scene)
    source[0] = color.add_noise(shown, plan["sensor noise"]["source"], 0)
    taken = color.add_noise(background, plan["sensor noise"]["plate"], 0)
    plate[0] = moved(recoloured(taken, plan["plate jitter"]), plan["plate pose"])


def trimap(alpha: np.ndarray, unknown: int) -> np.ndarray:
    """0 and 255 where alpha [h, w] is that for so many pixels all around, `UNKNOWN` elsewhere."""
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * unknown + 1, 2 * unknown + 1))
    person, nobody = (cv2.erode((alpha == value).astype(np.uint8), disk) for value in (255, 0))
    return np.where(person, 255, np.where(nobody, 0, UNKNOWN)).astype(np.uint8)


def shaded(background: np.ndarray, alpha: np.ndarray, shadow: Plan, size: int) -> np.ndarray:
    """The background [h, w, 3] with the shadow of a person, which has the person's shape, elsewhere and blurred.

    The blur is in pixels of a picture of 512; `size` is that of the square that this one is of.
    """
    if shadow["strength"] == 0:
        return background
    height, width = alpha.shape
    inverse = np.linalg.inv(motion.affine(np.asarray(shadow["pose"]), width, height))
    cast = motion.warp(alpha, inverse, height, width)
    side = max(1, round(int(shadow["blur"]) * size / 512))
    cast = cv2.blur(cast, (side, side))
    darker = background - float(shadow["strength"]) * cast[..., None].astype(np.float32)
    return np.clip(np.rint(darker), 0, 255).astype(np.uint8)


def recoloured(picture: np.ndarray, jitter: Any) -> np.ndarray:
    """With another brightness, which is added, contrast, saturation and hue [4]."""
    if not np.any(jitter):
        return picture
    brighter = cv2.add(picture, np.full(picture.shape, 255 * float(jitter[0]), np.float32), dtype=cv2.CV_8U)
    return color.adjust(brighter, np.array([0.0, *jitter[1:]]))


def moved(picture: np.ndarray, pose: Any) -> np.ndarray:
    """A little aside, without interpolation; its edges are repeated outside."""
    height, width = picture.shape[:2]
    if np.array_equal(pose, np.array(motion.UNMOVED)):
        return picture
    forward = motion.affine(np.asarray(pose), width, height)
    return cv2.warpAffine(
        picture, forward[:2], (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
