"""Matting metrics: functions of clips [B, T, H, W, C] in 0..1 and their truth, a figure for each frame [B, T].

They have the definitions and scales of the released evaluation; a clip's figure is the mean over its frames. All but
`connectivity` are pure functions of arrays and run on any device; that one takes NumPy's arrays and runs on the host.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import ndimage

GRADIENT_SIGMA = 1.4
CONNECTIVITY_STEPS = 10
CONNECTIVITY_TOLERANCE = 0.15
BAND_STEPS = (1, 3, 8)
"""Pixels by which the unknown band is widened, one step after the other: 12 to each side in all, a box of 25."""


def mad(alpha: Array, true_alpha: Array) -> Array:
    """Mean absolute difference, in thousandths."""
    return 1e3 * jnp.mean(jnp.abs(alpha - true_alpha), (-3, -2, -1))


def mad_in_band(alpha: Array, true_alpha: Array) -> Array:
    """Mean absolute difference in the unknown band of a trimap, in thousandths; 0 if there is none: MAD-T.

    That band is where the truth is neither 0 nor 1, and 12 pixels around. Papers that come with trimaps take theirs.
    """
    band = (true_alpha > 0) & (true_alpha < 1)
    for axis in (-3, -2):
        for step in BAND_STEPS:
            band = _widened(band, step, axis % band.ndim)
    return 1e3 * _mean_where(band, jnp.abs(alpha - true_alpha))


def mse(alpha: Array, true_alpha: Array) -> Array:
    """Mean squared difference, in thousandths."""
    return 1e3 * jnp.mean(jnp.square(alpha - true_alpha), (-3, -2, -1))


def gradient(alpha: Array, true_alpha: Array, *, stretch: bool = True) -> Array:
    """Sum of squared differences of the steepness, in thousands.

    With `stretch`, both alphas are stretched to 0..1 before, frame by frame; one that is the same everywhere becomes 0.
    The published figures of HD and 4K are without.
    """
    # By one loop for both: XLA may round two that are written alike in two ways, and what is equal has no error.
    steepness, true_steepness = _steepness(jnp.stack([alpha, true_alpha]), stretch)
    return jnp.sum(jnp.square(steepness - true_steepness), (-2, -1)) / 1e3


def dtssd(alpha: Array, true_alpha: Array) -> Array:
    """Root mean square of how the difference changes from frame to frame, in hundredths. The first frame's is 0."""
    difference = alpha - true_alpha
    change = jnp.diff(difference, axis=-4, prepend=difference[..., :1, :, :, :])
    return 1e2 * jnp.sqrt(jnp.mean(jnp.square(change), (-3, -2, -1)))


def foreground_mad(foreground: Array, true_foreground: Array, true_alpha: Array) -> Array:
    """Mean absolute difference of colours where the true alpha is above 0, in thousandths; 0 if that is nowhere."""
    return 1e3 * _mean_where(true_alpha > 0, jnp.abs(foreground - true_foreground))


def foreground_mse(foreground: Array, true_foreground: Array, true_alpha: Array) -> Array:
    """Mean squared difference of colours where the true alpha is above 0, in thousandths; 0 if that is nowhere."""
    return 1e3 * _mean_where(true_alpha > 0, jnp.square(foreground - true_foreground))


def connectivity(alpha: np.ndarray, true_alpha: np.ndarray) -> np.ndarray:
    """How differently the pixels of both alphas hang together with what both show for sure, in thousands."""
    frames, shape = alpha.reshape(-1, *alpha.shape[-3:-1]), alpha.shape[:-3]
    true_frames = true_alpha.reshape(frames.shape)
    return np.array([_connectivity(*pair) for pair in zip(frames, true_frames, strict=True)]).reshape(shape)


def _connectivity(alpha: np.ndarray, true_alpha: np.ndarray) -> float:
    """The same of one frame [H, W]."""
    level = np.full(alpha.shape, -1, np.int8)  # the last step at which a pixel belongs to the largest connected part
    for step in range(1, CONNECTIVITY_STEPS + 1):
        threshold = step / CONNECTIVITY_STEPS
        parts, count = ndimage.label((alpha >= threshold) & (true_alpha >= threshold))  # by their sides, not corners
        largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1 if count else np.zeros_like(parts, bool)
        level[(level < 0) & ~largest] = step - 1
    reached = np.where(level < 0, 1, level / CONNECTIVITY_STEPS)

    def together(x: np.ndarray) -> np.ndarray:
        above = x - reached
        return 1 - above * (above >= CONNECTIVITY_TOLERANCE)

    return float(np.abs(together(alpha) - together(true_alpha)).sum() / 1e3)


def _steepness(alpha: Array, stretch: bool) -> Array:
    """Length of the gradient, by derivatives of a Gaussian: `[..., H, W, 1]` → `[..., H, W]`."""
    alpha = alpha[..., 0]  # XLA's CPU code for arrays without that axis takes less than half the time
    if stretch:
        low, high = alpha.min((-2, -1), keepdims=True), alpha.max((-2, -1), keepdims=True)
        alpha = jnp.where(high > low, (alpha - low) / jnp.where(high > low, high - low, 1), 0)
    smooth, slope = _gaussian_filters()
    across = _filtered(_filtered(alpha, slope, -1), smooth, -2)
    down = _filtered(_filtered(alpha, smooth, -1), slope, -2)
    return jnp.sqrt(jnp.square(across) + jnp.square(down))


def _gaussian_filters() -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian and its derivative, cut where they hardly count. Their outer product has a Frobenius norm of 1."""
    sigma = GRADIENT_SIGMA
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * 0.01)))
    x = np.arange(-half, half + 1)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    slope = -x * smooth
    return smooth / np.linalg.norm(smooth), slope / np.linalg.norm(slope)


def _filtered(x: Array, weights: np.ndarray, axis: int) -> Array:
    """Along an axis; the edges are repeated."""
    half, axis = len(weights) // 2, axis % x.ndim
    padding = [(0, 0)] * x.ndim
    padding[axis] = (half, half)
    padded, size = jnp.pad(x, padding, "edge"), x.shape[axis]
    parts = (float(w) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, w in enumerate(weights))
    return sum(parts, start=jnp.zeros_like(x))


def _widened(mask: Array, step: int, axis: int) -> Array:
    """Also where the mask is `step` pixels before or behind along an axis."""
    size = mask.shape[axis]
    padded = jnp.pad(mask, [(step, step) if one == axis else (0, 0) for one in range(mask.ndim)])
    before, behind = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2 * step))
    return mask | before | behind


def _mean_where(visible: Array, values: Array) -> Array:
    pixels = jnp.sum(visible, (-3, -2, -1))
    total = jnp.sum(jnp.where(visible, values, 0), (-3, -2, -1))
    return total / (values.shape[-1] * jnp.maximum(pixels, 1)).astype(total.dtype)
