"""Convolutions with PyTorch's padding, each in the form that its platform runs fastest.

Arrays are channels-last, kernels `[h, w, in, out]`. Every convolution pads by `dilation · (k - 1) / 2` on both sides,
as PyTorch's do, and never by XLA's `SAME`, which is asymmetric at stride 2.

A convolution is linear in its input and in its kernel, so besides it there are two transposes to compute, the gradients
of either. Depthwise convolutions and their inputs' gradients are sums of shifted products on CPUs, GPUs and, at stride
1, TPUs: on a CPU up to fifty times faster than XLA's own, on the others one kernel that reads and writes least.
Accelerators take XLA's own convolutions for everything else, but for depthwise kernels' gradients on TPUs at stride 1.
XLA's CPU back end is slow at depthwise kernels' gradients and with few output channels (most vector lanes idle), and
those are written out below. The forms were chosen by measurement on a CPU and by what the compilers make of them for
others: see `benchmarks/RESULTS.md`.

Gradients are written out too, so they are reverse mode only: `jax.grad` and `jax.vjp`, not `jax.jvp`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from rvm_jax.model.platforms import by_platform

Convolve = Callable[[Array, Array, int, int], Array]
Shaped = Array | jax.ShapeDtypeStruct

# On CPU: up to how many output channels several pixels are convolved as one, and how many of them, at stride 1, at
# other strides, and for the kernel's gradient.
FEW_OUTPUTS = 16
GROUP, STRIDED_GROUP, GRADIENT_GROUP = 2, 4, 2
# On CPU: up to how many pixels a frame stays in the cache while all of it is reduced at once.
CACHED_PIXELS = 4096


def per_channel(vector: Array) -> Array:
    """`[C]` → `[1, 1, 1, C]`, so that it broadcasts over frames, rows and columns by intent and not by accident."""
    return vector.reshape(1, 1, 1, -1)


def conv2d(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Convolution without bias. `[N, H, W, I]`, `[h, w, I, O]` → `[N, ⌈H/stride⌉, ⌈W/stride⌉, O]`."""
    if kernel.shape[:2] == (1, 1):
        x = x[:, ::stride, ::stride]
        # A product of matrices, and so are its gradients: on CPU several times faster than a convolution's.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
    return _dense(x, kernel, stride, dilation)


def depthwise_conv2d(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1, exact: bool = False) -> Array:
    """Convolution of each channel with its own kernel. `[N, H, W, C]`, `[h, w, 1, C]` → `[N, ⌈H/s⌉, ⌈W/s⌉, C]`.

    With `exact` all of it, gradients too, is a sum of shifted products on GPUs and TPUs: of a convolution they would
    round the factors, to TF32 or bfloat16.
    """
    return _depthwise(x, kernel, stride, dilation, exact)


def input_gradient(cotangent: Array, kernel: Array, *, dilation: int = 1) -> Array:
    """The transpose of `x ↦ conv2d(x, kernel)` at stride 1: a convolution with the kernel turned by half a circle."""
    return _dense(cotangent, kernel[::-1, ::-1].swapaxes(2, 3), 1, dilation)


def kernel_gradient(x: Array, cotangent: Array, kernel: Shaped, *, stride: int = 1, dilation: int = 1) -> Array:
    """The transpose of `kernel ↦ conv2d(x, kernel)`; of `kernel` only shape and dtype matter."""

    return by_platform(
        x,
        cotangent,
        cpu=_kernel_gradient_of(partial(_on_cpu, strided_group=GRADIENT_GROUP), kernel, stride, dilation),
        cuda=_kernel_gradient_without_dilation(convolve, kernel, stride, dilation),
        default=_kernel_gradient_of(convolve, kernel, stride, dilation),
    )


def _kernel_gradient_of(form: Convolve, kernel: Shaped, stride: int, dilation: int) -> Callable[[Array, Array], Array]:
    def transpose(x: Array, cotangent: Array) -> Array:
        (gradient,) = jax.linear_transpose(lambda k: form(x, k, stride, dilation), kernel)(cotangent)
        return gradient

    return transpose


def _kernel_gradient_without_dilation(
    form: Convolve, kernel: Shaped, stride: int, dilation: int
) -> Callable[[Array, Array], Array]:
    """The form for GPUs: cuDNN's gradient has no dilation, and XLA's is a convolution with a kernel as large as x.

    With every d-th row and column a picture of its own, there is no dilation left.
    """
    if dilation == 1 or stride != 1:
        return _kernel_gradient_of(form, kernel, stride, dilation)
    transpose = _kernel_gradient_of(form, kernel, 1, 1)
    return lambda x, cotangent: transpose(_apart(x, dilation), _apart(cotangent, dilation))


def _apart(x: Array, step: int) -> Array:
    """Each `step`-th pixel of each `step`-th row as a picture: `[N, H, W, C]` → `[N·step², ⌈H/step⌉, ⌈W/step⌉, C]`."""
    count, rows, columns, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -rows % step), (0, -columns % step), (0, 0)))
    x = x.reshape(count, -(-rows // step), step, -(-columns // step), step, channels)
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(-1, x.shape[1], x.shape[3], channels)


def _padding(size: int, dilation: int) -> tuple[int, int]:
    one_side = dilation * (size - 1) // 2
    return one_side, one_side


def convolve(x: Array, kernel: Array, stride: int = 1, dilation: int = 1, *, groups: int = 1) -> Array:
    """XLA's own convolution, on any platform."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[_padding(size, dilation) for size in kernel.shape[:2]],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# Dense convolutions


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _dense(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    on_cpu = partial(_on_cpu, stride=stride, dilation=dilation)
    return by_platform(x, kernel, cpu=on_cpu, default=partial(convolve, stride=stride, dilation=dilation))


def _dense_forward(x: Array, kernel: Array, stride: int, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return _dense(x, kernel, stride, dilation), (x, kernel)


def _dense_backward(
    stride: int, dilation: int, residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    x, kernel = residuals
    if stride == 1:
        x_gradient = input_gradient(cotangent, kernel, dilation=dilation)
    else:
        (x_gradient,) = jax.linear_transpose(lambda x: convolve(x, kernel, stride, dilation), x)(cotangent)
    return x_gradient, kernel_gradient(x, cotangent, kernel, stride=stride, dilation=dilation)


_dense.defvjp(_dense_forward, _dense_backward)


def _on_cpu(x: Array, kernel: Array, stride: int, dilation: int, *, strided_group: int = STRIDED_GROUP) -> Array:
    if dilation == 1 and kernel.shape[-1] <= FEW_OUTPUTS:
        return _convolve_groups(x, kernel, stride, GROUP if stride == 1 else strided_group)
    return convolve(x, kernel, stride, dilation)


def _convolve_groups(x: Array, kernel: Array, stride: int, group: int) -> Array:
    """Convolve for `group` neighbouring output pixels at once, as if they were one pixel of `group` times the channels.

    The kernel is that of one pixel, shifted for each of the group and zero elsewhere: more arithmetic, but with few
    output channels the CPU's vector lanes would otherwise idle.
    """
    height, width, inputs, outputs = kernel.shape
    columns = x.shape[2]
    wide = jnp.stack(
        [jnp.pad(kernel, ((0, 0), (i * stride, (group - 1 - i) * stride), (0, 0), (0, 0))) for i in range(group)], 3
    ).reshape(height, width + (group - 1) * stride, inputs, group * outputs)
    out_columns = -(-columns // stride)
    out_groups = -(-out_columns // group)
    left = (width - 1) // 2
    right = (out_groups - 1) * group * stride + wide.shape[1] - columns - left
    y = lax.conv_general_dilated(
        x,
        wide,
        window_strides=(stride, group * stride),
        padding=[_padding(height, 1), (left, right)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # [N, ⌈H/s⌉, groups, group·O]
    return y.reshape(*y.shape[:2], out_groups * group, outputs)[:, :, :out_columns]


# Depthwise convolutions


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(x: Array, kernel: Array, stride: int, dilation: int, exact: bool) -> Array:
    products = partial(_shifted_products, stride=stride, dilation=dilation)
    if exact:
        return products(x, kernel)
    grouped = partial(convolve, stride=stride, dilation=dilation, groups=kernel.shape[-1])
    return by_platform(x, kernel, tpu=products if stride == 1 else grouped, default=products)


def _depthwise_forward(
    x: Array, kernel: Array, stride: int, dilation: int, exact: bool
) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, kernel, stride, dilation, exact), (x, kernel)


def _depthwise_backward(
    stride: int, dilation: int, exact: bool, residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    by_groups = partial(convolve, groups=residuals[1].shape[-1])

    def written_out(at_once: int, x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        return (
            _shifted_products_input_gradient(x, kernel, cotangent, stride, dilation),
            _shifted_products_kernel_gradient(x, kernel, cotangent, stride, dilation, at_once),
        )

    def products(x: Array, kernel: Array) -> Array:
        return _shifted_products(x, kernel, stride, dilation)

    def grouped(x: Array, kernel: Array) -> Array:
        return by_groups(x, kernel, stride, dilation)

    def both(form: Callable[[Array, Array], Array], x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        x_gradient, kernel_gradient = jax.vjp(form, x, kernel)[1](cotangent)
        return x_gradient, kernel_gradient

    def mixed(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        of_kernel = _kernel_gradient_without_dilation(by_groups, kernel, stride, dilation)
        return both(products, x, kernel, cotangent)[0], of_kernel(x, cotangent)

    pixels = cotangent.shape[1] * cotangent.shape[2]
    on_cpu = partial(written_out, 2 if pixels <= CACHED_PIXELS else 1)
    on_tpu = partial(written_out, 3) if stride == 1 else partial(both, products if exact else grouped)
    default = partial(both, products) if exact else mixed
    return by_platform(*residuals, cotangent, cpu=on_cpu, tpu=on_tpu, default=default)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def windows(x: Array, size: tuple[int, ...], stride: int = 1, dilation: int = 1, *, outside: float = 0) -> list[Array]:
    """For each tap of a kernel of `size`, row by row, the pixels of x that it meets: `[N, ⌈H/s⌉, ⌈W/s⌉, C]`."""
    count, rows, columns, channels = x.shape
    padding = [(0, 0), *(_padding(side, dilation) for side in size), (0, 0)]
    padded = jnp.pad(x, padding, constant_values=outside)
    # Without the barrier, XLA's CPU back end would compute whatever made x anew for every tap.
    padded = by_platform(padded, cpu=lax.optimization_barrier, default=lambda x: x)
    last_row, last_column = (rows - 1) // stride * stride, (columns - 1) // stride * stride
    return [
        lax.slice(
            padded,
            (0, i * dilation, j * dilation, 0),
            (count, i * dilation + last_row + 1, j * dilation + last_column + 1, channels),
            (1, stride, stride, 1),
        )
        for i in range(size[0])
        for j in range(size[1])
    ]


def _shifted_products(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    total = jnp.zeros((), x.dtype)
    taps = kernel.reshape(-1, kernel.shape[-1])  # [h·w, C]
    for window, tap in zip(windows(x, kernel.shape[:2], stride, dilation), taps, strict=True):
        total = total + window * per_channel(tap)
    return total


def _shifted_products_kernel_gradient(
    x: Array, kernel: Array, cotangent: Array, stride: int, dilation: int, at_once: int
) -> Array:
    """All taps in one reduction of several operands, so that x and the cotangent are read once.

    That is over columns, rows and columns, or frames as well: the last `at_once` of these three axes.
    """
    dtype = x.dtype if x.dtype.itemsize >= 4 else jnp.float32
    products = [
        window.astype(dtype) * cotangent.astype(dtype) for window in windows(x, kernel.shape[:2], stride, dilation)
    ]
    sums = lax.reduce(
        products,
        [jnp.zeros((), dtype)] * len(products),
        lambda a, b: [left + right for left, right in zip(a, b, strict=True)],
        range(3 - at_once, 3),
    )
    sums = [part.sum(range(part.ndim - 1)) for part in lax.optimization_barrier(list(sums))]
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _shifted_products_input_gradient(x: Array, kernel: Array, cotangent: Array, stride: int, dilation: int) -> Array:
    """At stride 1 a convolution; at stride s, one for each of the s² positions that a pixel can have in its cell."""
    if stride == 1:
        return _shifted_products(cotangent, kernel[::-1, ::-1], 1, dilation)
    count, rows, columns, channels = x.shape
    height, width = kernel.shape[:2]
    (top, _), (left, _) = (_padding(size, dilation) for size in (height, width))
    cells = -(-rows // stride), -(-columns // stride)
    margin = (max(height, width) - 1) * dilation // stride + 1
    padded = lax.optimization_barrier(
        jnp.pad(
            cotangent,
            [(0, 0), *((margin, margin + n - g) for n, g in zip(cells, cotangent.shape[1:3], strict=True)), (0, 0)],
        )
    )

    def position(row: int, column: int) -> Array:
        total = jnp.zeros((count, *cells, channels), cotangent.dtype)
        for i in range(height):
            for j in range(width):
                down, right = row + top - i * dilation, column + left - j * dilation
                if down % stride == right % stride == 0:
                    start_row, start_column = margin + down // stride, margin + right // stride
                    window = padded[:, start_row : start_row + cells[0], start_column : start_column + cells[1]]
                    total = total + window * per_channel(kernel[i, j])
        return lax.optimization_barrier(total)

    grid = jnp.stack(
        [jnp.stack([position(row, column) for column in range(stride)], 3) for row in range(stride)], 2
    )  # [N, cells, s, cells, s, C]
    return grid.reshape(count, cells[0] * stride, cells[1] * stride, channels)[:, :rows, :columns]
