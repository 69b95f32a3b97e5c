"""The losses of matting and segmentation: pure functions of predictions and truth.

All are in float32 or the precision of what they are given, whichever is higher. Clips are [B, T, H, W, C].
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

LEVELS = 5
COHERENCE = 5.0
"""How much the coherence of alpha, and that of the foreground, weighs."""


def matting_loss(
    foreground: jax.Array, alpha: jax.Array, true_foreground: jax.Array, true_alpha: jax.Array
) -> Mapping[str, jax.Array]:
    """The terms of the matting loss, already weighted, and their sum `total`; everything is in 0..1.

    The foreground counts where the true alpha is above 0, but is averaged over all pixels. With one frame there is no
    coherence to speak of: it is 0.
    """
    visible = true_alpha > 0
    alpha_error = _wide(alpha) - _wide(true_alpha)
    foreground_error = jnp.where(visible, _wide(foreground) - _wide(true_foreground), 0)
    terms = {
        "alpha_l1": jnp.mean(jnp.abs(alpha_error)),
        "alpha_laplacian": laplacian_loss(alpha_error),
        "alpha_coherence": COHERENCE * _coherence(alpha_error),
        "foreground_l1": jnp.mean(jnp.abs(foreground_error)),
        "foreground_coherence": COHERENCE * _coherence(foreground_error),
    }
    return {**terms, "total": sum(terms.values(), jnp.zeros((), alpha_error.dtype))}


def segmentation_loss(logits: jax.Array, mask: jax.Array) -> Mapping[str, jax.Array]:
    """Mean binary cross-entropy against a mask of 0 and 1."""
    logits, mask = _wide(logits), _wide(mask)
    return {"total": jnp.mean(jax.nn.softplus(logits) - logits * mask)}


def laplacian_loss(error: jax.Array) -> jax.Array:
    """Sum over the levels i of the Laplacian pyramid of 2^i · mean |level|, over the number of levels.

    A pyramid is linear, so that of the error [B, T, H, W, C] is the difference of those of prediction and truth.
    """
    level = error.reshape(-1, *error.shape[2:])  # [B·T, H, W, C]
    total = jnp.zeros((), error.dtype)
    for i in range(LEVELS):
        level = level[:, : level.shape[1] // 2 * 2, : level.shape[2] // 2 * 2]
        smaller = _blur(level)[:, ::2, ::2]
        total += 2.0**i * jnp.mean(jnp.abs(level - _blur(_spread(smaller))))
        level = smaller
    return total / LEVELS


def _coherence(error: jax.Array) -> jax.Array:
    """Mean squared change of the error from frame to frame."""
    if error.shape[1] == 1:
        return jnp.zeros((), error.dtype)
    return jnp.mean(jnp.square(error[:, 1:] - error[:, :-1]))


def _blur(pictures: jax.Array) -> jax.Array:
    """Weighted sum with the neighbours up to two pixels away, binomial in both directions; mirrored at the border."""
    padded = jnp.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    height, width = pictures.shape[1:3]
    weights = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    rows = sum((w * padded[:, i : i + height] for i, w in enumerate(weights)), jnp.zeros((), pictures.dtype))
    return sum((w * rows[:, :, i : i + width] for i, w in enumerate(weights)), jnp.zeros((), pictures.dtype))


def _spread(pictures: jax.Array) -> jax.Array:
    """Twice the size: every pixel fourfold, and zeros between them, so that blurring keeps the mean."""
    spaced = ((0, 0, 0), (0, 1, 1), (0, 1, 1), (0, 0, 0))
    return jax.lax.pad(4 * pictures, jnp.zeros((), pictures.dtype), spaced)


def _wide(array: jax.Array) -> jax.Array:
    """In float32 at least."""
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)
