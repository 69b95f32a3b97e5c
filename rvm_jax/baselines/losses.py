"""The losses that the baselines are trained with: pure functions of a network's output and of the truth.

Each gives its terms, already weighted, and their sum `total`, in float32 or the precision of the output, whichever is
higher. Images are `[N, H, W, C]`, alphas and masks `[N, H, W, 1]` in 0..1.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rvm_jax.baselines.background_matting import MattingBaseOutput, MattingRefineOutput
from rvm_jax.baselines.layers import resize
from rvm_jax.baselines.modnet import MODNetOutput
from rvm_jax.baselines.u2net import U2NetOutput

SEMANTIC_SCALE = 16  # MODNet's semantic map is this much smaller than the image


def modnet_loss(output: MODNetOutput, images: Array, alpha: Array, trimap: Array) -> Mapping[str, Array]:
    """MODNet's, for labelled images as the network takes them; the trimap is 0, 1 or, where it is unknown, 0.5."""
    images, alpha, trimap = (_exact(x) for x in (images, alpha, trimap))
    semantic, detail, matte = _maps(output)
    known = trimap != 0.5
    # Where the trimap knows, a matte that is wrong there already counts once.
    at_edges = jnp.where(known, trimap, matte)
    return _with_total(
        semantic=10 * _mean_square(semantic - _coarse(alpha)),
        detail=10 * _mean_abs(jnp.where(known, 0, detail - alpha)),
        matte=(
            _mean_abs(matte - alpha)
            + 4 * _mean_abs(at_edges - alpha)
            + _mean_abs(images * (matte - alpha))
            + 4 * _mean_abs(images * (at_edges - alpha))
        ),
    )


def modnet_adaptation_loss(output: MODNetOutput, frozen: MODNetOutput) -> Mapping[str, Array]:
    """MODNet's self-supervision on unlabelled images: its maps must agree with each other, and at edges with those of
    a `frozen` copy of the network. An image without an edge has no second term."""
    semantic, detail, matte = _maps(output)
    _, frozen_detail, frozen_matte = jax.tree.map(lax.stop_gradient, _maps(frozen))
    coarse = _coarse(matte)
    person = resize((semantic > 0.1).astype(matte.dtype), matte.shape[1:3])
    foreground = jnp.where(matte > 0.1, person, 0)
    edge = lax.stop_gradient(edges(foreground))
    count = jnp.maximum(edge.sum((1, 2, 3)), 1)

    def at_edges(error: Array) -> Array:
        return ((edge * jnp.abs(error)).sum((1, 2, 3)) / count).mean()

    return _with_total(
        semantic=100 * (_mean_square(semantic - _sure(coarse)) + _mean_square(coarse - _sure(semantic))),
        detail=at_edges(detail - frozen_detail) + at_edges(matte - frozen_matte),
    )


def matting_base_loss(output: MattingBaseOutput, foreground: Array, alpha: Array) -> Mapping[str, Array]:
    """BackgroundMattingV2's, of the coarse network. What the error is compared with gets no gradient."""
    output, foreground, alpha = jax.tree.map(_exact, (output, foreground, alpha))
    wrong = lax.stop_gradient(jnp.abs(output.alpha - alpha))
    return _with_total(
        **_alpha_and_foreground(output.alpha, output.foreground, alpha, foreground),
        error=_mean_square(output.error - wrong),
    )


def matting_refine_loss(output: MattingRefineOutput, foreground: Array, alpha: Array) -> Mapping[str, Array]:
    """BackgroundMattingV2's, of the whole network. What the error is compared with gets its gradient here."""
    output, foreground, alpha = jax.tree.map(_exact, (output, foreground, alpha))
    size, low = alpha.shape[1:3], output.coarse_alpha.shape[1:3]
    coarse = _alpha_and_foreground(
        output.coarse_alpha, output.coarse_foreground, resize(alpha, low), resize(foreground, low)
    )
    wrong = jnp.abs(resize(output.coarse_alpha, size) - alpha)
    return _with_total(
        **_alpha_and_foreground(output.alpha, output.foreground, alpha, foreground),
        **{f"coarse_{name}": term for name, term in coarse.items()},
        error=_mean_square(resize(output.coarse_error, size) - wrong),
    )


def u2net_loss(output: U2NetOutput, mask: Array) -> Mapping[str, Array]:
    """U²-Net's: binary cross-entropy of the fused map and of each of the six others, no pixel's above 100."""
    mask = _exact(mask)
    names = ("fused", *(f"side{number}" for number in range(1, 7)))
    maps = (output.alpha, *output.sides)
    return _with_total(**{name: _cross_entropy(_exact(x), mask) for name, x in zip(names, maps, strict=True)})


def _with_total(**terms: Array) -> Mapping[str, Array]:
    return {**terms, "total": jnp.stack(list(terms.values())).sum()}


def _exact(x: Any) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def _maps(output: MODNetOutput) -> tuple[Array, Array, Array]:
    """Semantic, detail and matte."""
    assert output.semantic is not None
    assert output.detail is not None, "apply the network with side_outputs=True"
    return _exact(output.semantic), _exact(output.detail), _exact(output.alpha)


def _mean_abs(x: Array) -> Array:
    return jnp.abs(x).mean()


def _mean_square(x: Array) -> Array:
    return jnp.square(x).mean()


def _alpha_and_foreground(
    alpha: Array, foreground: Array, true_alpha: Array, true_foreground: Array
) -> dict[str, Array]:
    """The foreground counts where the true alpha is not 0, but is averaged over all pixels."""
    return {
        "alpha": _mean_abs(alpha - true_alpha),
        "alpha_gradient": _mean_abs(sobel(alpha) - sobel(true_alpha)),
        "foreground": _mean_abs(jnp.where(true_alpha != 0, foreground - true_foreground, 0)),
    }


def sobel(x: Array) -> Array:
    """How steep `[N, H, W, C]` is, by Sobel's filters over 8; its edges are repeated outside."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")

    def smooth(x: Array, axis: int) -> Array:
        parts = [lax.slice_in_dim(x, i, x.shape[axis] - 2 + i, axis=axis) for i in range(3)]
        return parts[0] + 2 * parts[1] + parts[2]

    def differences(x: Array, axis: int) -> Array:
        size = x.shape[axis]
        return lax.slice_in_dim(x, 2, size, axis=axis) - lax.slice_in_dim(x, 0, size - 2, axis=axis)

    across, down = differences(smooth(padded, 1), 2) / 8, differences(smooth(padded, 2), 1) / 8
    return jnp.sqrt(jnp.square(across) + jnp.square(down) + 1e-6)


def _coarse(alpha: Array) -> Array:
    """Alpha as the semantic map should be: 1/16 of the size, without antialiasing, and blurred."""
    return blur(resize(alpha, (alpha.shape[1] // SEMANTIC_SCALE, alpha.shape[2] // SEMANTIC_SCALE)))


def blur(x: Array) -> Array:
    """A 3×3 filter: a Gaussian of deviation 0.8 whose tails are folded back; `[N, H, W, C]` reflected at its edges."""
    weights = np.exp(-(np.arange(4) ** 2) / (2 * 0.8**2))
    line = np.array([weights[1] + weights[2], weights[0] + 2 * weights[3], weights[1] + weights[2]])
    line /= 2 * weights.sum() - weights[0]
    kernel = np.outer(line, line).astype(np.float32)  # as the released code keeps it
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = x.shape[1:3]
    taps = [float(kernel[i, j]) * padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return sum(taps[1:], taps[0])


def _sure(x: Array) -> Array:
    """Without its faint values, and as a truth: no gradient flows into it."""
    x = lax.stop_gradient(x)
    return jnp.where(x > 0.01, x, 0)


def edges(foreground: Array) -> Array:
    """1 where the foreground is not the same all around, within about 5 % of the image's size; else 0."""
    side = max(1, int((foreground.shape[1] + foreground.shape[2]) / 2 * 0.05))
    # Where the side is even, SciPy's dilation and erosion lean apart.
    before, after = (side - 1) // 2, side // 2

    def extreme(operator: Any, start: float, padding: tuple[int, int]) -> Array:
        window = (1, side, side, 1)
        return lax.reduce_window(foreground, start, operator, window, (1, 1, 1, 1), ((0, 0), padding, padding, (0, 0)))

    dilated = extreme(lax.max, -np.inf, (before, after))
    eroded = extreme(lax.min, np.inf, (after, before))
    return (dilated != eroded).astype(foreground.dtype)


def _cross_entropy(probability: Array, mask: Array) -> Array:
    return -(mask * _log(probability) + (1 - mask) * _log(1 - probability)).mean()


def _log(x: Array) -> Array:
    """At least -100, and without gradient there."""
    return jnp.maximum(jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -100), -100)
