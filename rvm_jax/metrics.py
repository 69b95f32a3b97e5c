"""How far mattes are from the truth: pure functions of clips [B, T, H, W, C] in 0..1, a figure for each frame [B, T].

They have the definitions and scales of the released evaluation; a clip's figure is the mean over its frames.
"""

import jax
import jax.numpy as jnp


def mad(alpha: jax.Array, true_alpha: jax.Array) -> jax.Array:
    """Mean absolute difference, in thousandths."""
    return 1e3 * jnp.mean(jnp.abs(alpha - true_alpha), (-3, -2, -1))


def mse(alpha: jax.Array, true_alpha: jax.Array) -> jax.Array:
    """Mean squared difference, in thousandths."""
    return 1e3 * jnp.mean(jnp.square(alpha - true_alpha), (-3, -2, -1))


def dtssd(alpha: jax.Array, true_alpha: jax.Array) -> jax.Array:
    """Root mean square of how the difference changes from frame to frame, in hundredths. The first frame's is 0."""
    difference = alpha - true_alpha
    change = jnp.diff(difference, axis=-4, prepend=difference[..., :1, :, :, :])
    return 1e2 * jnp.sqrt(jnp.mean(jnp.square(change), (-3, -2, -1)))


def foreground_mad(foreground: jax.Array, true_foreground: jax.Array, true_alpha: jax.Array) -> jax.Array:
    """Mean absolute difference of colours where the true alpha is above 0, in thousandths; 0 if that is nowhere."""
    return 1e3 * _mean_where(true_alpha > 0, jnp.abs(foreground - true_foreground))


def foreground_mse(foreground: jax.Array, true_foreground: jax.Array, true_alpha: jax.Array) -> jax.Array:
    """Mean squared difference of colours where the true alpha is above 0, in thousandths; 0 if that is nowhere."""
    return 1e3 * _mean_where(true_alpha > 0, jnp.square(foreground - true_foreground))


def _mean_where(visible: jax.Array, values: jax.Array) -> jax.Array:
    pixels = jnp.sum(visible, (-3, -2, -1))
    total = jnp.sum(jnp.where(visible, values, 0), (-3, -2, -1))
    return total / (values.shape[-1] * jnp.maximum(pixels, 1)).astype(total.dtype)
