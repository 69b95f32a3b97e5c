"""Color augmentation: colour, grain and sharpness, all that happens to pixel values.

Brightness, contrast, saturation, hue and gray are all linear in a pixel's colour (the hue turns about the gray axis at
constant luma), so they are composed into one matrix a frame and clipped once, where the published recipe clips after
each.
"""

import math

import cv2
import numpy as np

from data_pipelines.augment.easing import Draws

LUMA = np.array([0.299, 0.587, 0.114])
# Y, I and Q of a colour, the axes about and in which hue turns.
YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
UNCHANGED = (0.0, 0.0, 0.0, 0.0)
"""An adjustment: brightness, contrast and saturation as factors less one, hue in turns."""


def adjustment(values: np.ndarray, *, grayscale: bool, mean: float) -> np.ndarray:
    """Brightness, contrast, saturation and hue (then gray) as a matrix [3, 4] from R, G, B, 1 to R, G, B.

    Args:
        values: [4], see `UNCHANGED`.
        grayscale: Whether all ends as gray.
        mean: Mean luma of the frame, about which contrast turns.
    """
    brightness, contrast, saturation = np.maximum(0, 1 + np.asarray(values[:3], np.float64))
    turn = -2 * math.pi * float(values[3])  # from red towards yellow
    hue = np.linalg.inv(YIQ) @ _rotation(turn) @ YIQ
    gray = np.tile(LUMA, (3, 1))
    matrix = hue @ (saturation * np.eye(3) + (1 - saturation) * gray)
    if grayscale:
        matrix = gray @ matrix
    offset = matrix @ np.full((3, 1), (1 - contrast) * brightness * mean)
    return np.hstack([matrix * contrast * brightness, offset])


def adjust(frame: np.ndarray, values: np.ndarray, grayscale: bool = False) -> np.ndarray:
    """A frame uint8 [H, W, 3] with its colours adjusted."""
    if not grayscale and not np.any(values):
        return frame
    mean = float(np.dot(LUMA, cv2.mean(frame)[:3]))
    return cv2.transform(frame, adjustment(values, grayscale=grayscale, mean=mean))


def add_noise(frame: np.ndarray, noise: Draws, number: int) -> np.ndarray:
    """A frame uint8 [H, W, 3] under film grain; every frame `number` has its own."""
    if noise["deviation"] == 0:
        return frame
    height, width = frame.shape[:2]
    grain, channels = int(noise["grain"]), 1 if noise["gray"] else 3
    bits = np.random.Philox(key=np.asarray(noise["key"]).astype(np.uint64), counter=[0, 0, 0, number])
    coarse = (-(-height // grain), -(-width // grain), channels)
    field = np.random.Generator(bits).standard_normal(coarse, np.float32)
    field *= 255 * float(noise["deviation"])
    if grain > 1:
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    return cv2.add(frame, np.broadcast_to(field.reshape(height, width, channels), frame.shape), dtype=cv2.CV_8U)


def sharpen(frame: np.ndarray, factor: float) -> np.ndarray:
    """A frame uint8, [H, W] or [H, W, C], away from (factor over 1) or towards its smoothed self."""
    if factor == 1:
        return frame
    smooth = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    itself = np.zeros((3, 3))
    itself[1, 1] = 1
    return cv2.filter2D(frame, -1, factor * itself + (1 - factor) * smooth, borderType=cv2.BORDER_REPLICATE)


def blur(frame: np.ndarray, deviation: float) -> np.ndarray:
    """A frame uint8, [H, W] or [H, W, C], under a Gaussian."""
    if deviation <= 0:
        return frame
    return cv2.GaussianBlur(frame, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)


def _rotation(angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
