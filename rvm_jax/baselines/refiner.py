"""BackgroundMattingV2's refiner: a small network at full size, on all of an image or on the patches that need it.

It pads the image with zeros once and none of its layers, so a patch that is cut with its surroundings has the values
that the whole image would have given there. Patches are 4×4 pixels of the image, 2×2 of it at half size, and are
numbered row by row.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rvm_jax.baselines.layers import Layer, resize
from rvm_jax.model.layers import kernel_init
from rvm_jax.model.platforms import by_platform

HALF_PATCH, PATCH = 2, 4
# On CPU: up to how many pixels a row is convolved by products of matrices; of a patch with its margins it has 8.
NARROW = 8


class Patches(NamedTuple):
    """For each of N images the numbers of k patches, and which of them are to be refined; both `[N, k]`."""

    numbers: Array
    chosen: Array


class ValidConv(nn.Module):
    """A convolution without padding: `[N, H, W, C]` → `[N, H - k + 1, W - k + 1, features]`."""

    features: int
    kernel_size: int
    dtype: DTypeLike | None = None
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dtype = x.dtype if self.dtype is None else self.dtype
        kernel = self.param("kernel", kernel_init, (self.kernel_size, self.kernel_size, x.shape[-1], self.features))
        y = valid_conv2d(x.astype(dtype), kernel.astype(dtype))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(dtype)[None, None, None]
        return y


@jax.custom_vjp
def valid_conv2d(x: Array, kernel: Array) -> Array:
    """Convolution without padding: `[N, H, W, I]`, `[h, w, I, O]` → `[N, H - h + 1, W - w + 1, O]`."""
    return by_platform(x, kernel, cpu=_on_cpu, default=_convolve)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return valid_conv2d(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    def of(form: Callable[[Array, Array], Array], x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        x_gradient, kernel_gradient = jax.vjp(form, x, kernel)[1](cotangent)
        return x_gradient, kernel_gradient

    # Each form's own gradients, so that no platform keeps what another's would need.
    return by_platform(*residuals, cotangent, cpu=partial(of, _on_cpu), default=partial(of, _convolve))


valid_conv2d.defvjp(_forward, _backward)


def _convolve(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _on_cpu(x: Array, kernel: Array) -> Array:
    narrow = kernel.shape[1] > 1 and x.shape[2] <= NARROW
    return rows_by_products(x, kernel) if narrow else _convolve(x, kernel)


def rows_by_products(x: Array, kernel: Array) -> Array:
    """`valid_conv2d` as one product of matrices for each row of the kernel: a row of x times all that it adds to a row
    of the output.

    The matrix is the kernel's row, shifted for each output pixel and zero elsewhere: up to 8/3 of the arithmetic, but
    XLA's CPU back end is slow at convolutions of many small images with few channels (`benchmarks/baselines.py`).
    """
    count, rows, columns, inputs = x.shape
    height, width, _, outputs = kernel.shape
    out_rows, out_columns = rows - height + 1, columns - width + 1
    shifted = [jnp.pad(kernel, ((0, 0), (i, out_columns - 1 - i), (0, 0), (0, 0))) for i in range(out_columns)]
    matrices = jnp.stack(shifted, 3).reshape(height, columns * inputs, out_columns * outputs)
    x = x.reshape(count, rows, columns * inputs)
    products = [
        x[:, i : i + out_rows].reshape(count * out_rows, columns * inputs) @ matrix for i, matrix in enumerate(matrices)
    ]
    return sum(products[1:], products[0]).reshape(count, out_rows, out_columns, outputs)


class Refiner(nn.Module):
    """Two convolutions at half size, two at full size."""

    kernel_size: int
    norm: Layer
    dtype: DTypeLike | None = None

    @property
    def margins(self) -> tuple[int, int]:
        """How many pixels around its output it sees at half size and at full size."""
        return (3, 2) if self.kernel_size == 3 else (0, 0)

    @nn.compact
    def __call__(self, half: Array, full: Array) -> Array:
        """Coarse maps and images `[N, h, w, 42]` at half size, images `[N, H, W, 6]` at full, each with its margin, →
        alpha and residual `[N, H', W', 4]` without."""

        def conv(features: int, name: str, use_bias: bool = False) -> nn.Module:
            return ValidConv(features, self.kernel_size, self.dtype, use_bias, name=name)

        x = nn.relu(self.norm(name="norm1")(conv(24, "conv1")(half)))
        x = nn.relu(self.norm(name="norm2")(conv(16, "conv2")(x)))
        x = jnp.concatenate([x.repeat(2, 1).repeat(2, 2), full.astype(x.dtype)], -1)
        x = nn.relu(self.norm(name="norm3")(conv(12, "conv3")(x)))
        return conv(4, "conv4", use_bias=True)(x).astype(full.dtype)


def refine_everywhere(refiner: Refiner, coarse: Array, images: Array) -> Array:
    """Coarse maps `[N, h, w, 36]` and images `[N, H, W, 6]` → alpha and residual `[N, H, W, 4]`."""
    return refiner(*_inputs(refiner, coarse, images))


def refine_patches(
    refiner: Refiner, coarse: Array, images: Array, smooth: Array, patches: Patches
) -> tuple[Array, Array]:
    """`smooth` (alpha and residual, `[N, H, W, 4]`) with the chosen patches refined; and which, `[N, H/4, W/4, 1]`."""
    half, full = _inputs(refiner, coarse, images)
    batch, height, width, _ = smooth.shape
    rows, columns = height // PATCH, width // PATCH
    row, column = patches.numbers // columns, patches.numbers % columns
    half_margin, margin = refiner.margins
    refined = refiner(
        _crop(half, HALF_PATCH * row, HALF_PATCH * column, HALF_PATCH + 2 * half_margin),
        _crop(full, PATCH * row, PATCH * column, PATCH + 2 * margin),
    ).reshape(batch, -1, PATCH, PATCH, 4)

    # What is not chosen goes to a place that is not there.
    numbers = jnp.where(patches.chosen, patches.numbers, rows * columns)
    place = jnp.arange(batch)[:, None], numbers
    grid = smooth.reshape(batch, rows, PATCH, columns, PATCH, 4).swapaxes(2, 3).reshape(batch, -1, PATCH, PATCH, 4)
    grid = grid.at[place].set(refined, mode="drop")
    target = grid.reshape(batch, rows, columns, PATCH, PATCH, 4).swapaxes(2, 3).reshape(smooth.shape)
    where = jnp.zeros((batch, rows * columns), smooth.dtype).at[place].set(1, mode="drop")
    return target, where.reshape(batch, rows, columns, 1)


def most_uncertain(error: Array, count: int) -> Patches:
    """The `count` patches of each image with the greatest errors `[N, H/4, W/4, 1]`, or all; those of 0 not chosen."""
    flat = error.reshape(error.shape[0], -1)
    errors, numbers = lax.top_k(flat, min(count, flat.shape[1]))
    return Patches(numbers, errors > 0)


def _inputs(refiner: Refiner, coarse: Array, images: Array) -> tuple[Array, Array]:
    """What the refiner sees at half size and at full size, padded by its margins."""
    half_size = (images.shape[1] // 2, images.shape[2] // 2)
    half = jnp.concatenate([resize(coarse, half_size), resize(images, half_size)], -1)
    padded = []
    for x, margin in zip((half, images), refiner.margins, strict=True):
        padded.append(jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0))))
    return padded[0], padded[1]


def _crop(x: Array, rows: Array, columns: Array, size: int) -> Array:
    """Windows of `size`×`size` that begin at the given places, `[N, k]` each: `[N·k, size, size, C]`."""

    def window(image: Array, row: Array, column: Array) -> Array:
        return lax.dynamic_slice(image, (row, column, jnp.zeros_like(row)), (size, size, image.shape[-1]))

    windows = jax.vmap(jax.vmap(window, (None, 0, 0)))(x, rows, columns)  # [N, k, size, size, C]
    return windows.reshape(-1, *windows.shape[2:])
