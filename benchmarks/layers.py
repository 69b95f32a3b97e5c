"""Why layers are written as they are: each of them in its plain form, in ours, and in PyTorch, in one run.

    python benchmarks/layers.py [--layers gru bilinear] [--precision bfloat16] [--rounds 7] [--json results.json]

Plain is what one would write first: XLA's own convolutions (or, where those are hopeless, the gradient that JAX finds
of shifted products), and whatever differentiation makes of the rest. PyTorch is eager, channels last. The three take
turns, round after round, on whatever device there is; a time is the median round, in milliseconds.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from jax import Array, lax

# Python puts the folder of a script first, where `train` would be the benchmark and not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rvm_jax.model import convolution, guided_filter
from rvm_jax.model.decoder import RecurrentHalf
from rvm_jax.model.layers import BatchNorm
from rvm_jax.model.resize import linear_taps, upscale_twice

Function = Callable[..., Any]


@dataclass(frozen=True)
class Contest:
    """A layer, as functions of the same arrays; PyTorch's has tensors of their shape with channels first."""

    what: str
    plain: Function
    ours: Function
    torch: Function
    shapes: tuple[tuple[int, ...], ...]
    gradients: tuple[int, ...] = ()
    """The arrays by whose gradients the layer is differentiated; without any, it is only computed."""


def conv(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> Array:
    pads = [((size - 1) // 2, (size - 1) // 2) for size in kernel.shape[:2]]
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=numbers, feature_group_count=groups
    )


def shifted(x: Array, kernel: Array, stride: int = 1) -> Array:
    """A depthwise convolution as a sum of shifted products."""
    rows, columns = x.shape[1:3]
    reach = kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    windows = (
        padded[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )
    return sum(windows, start=jnp.zeros((), x.dtype))


def torch_conv(x: torch.Tensor, kernel: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
    """`kernel` `[h, w, I, O]`, as the others have it."""
    kernel = kernel.permute(3, 2, 0, 1)
    return F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, groups=groups)


def batch_norm(x: Array) -> Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(variance + 1e-5)


def our_batch_norm(x: Array) -> Array:
    ones, zeros = jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1])
    statistics_ = {"mean": zeros, "var": ones, "count": jnp.int32(0)}
    variables = {"params": {"scale": ones, "bias": zeros}, "batch_stats": statistics_}
    made, _ = BatchNorm(use_running_average=False).apply(variables, x, mutable=["batch_stats"])
    return made


def gru(x: Array, hidden: Array, gates: Array, candidate: Array) -> Array:
    """On the second half of the channels of `[T, h, w, 2C]`, differentiated as it stands."""
    first, second = jnp.split(x, 2, -1)

    def step(hidden: Array, x: Array) -> tuple[Array, Array]:
        reset, update = jnp.split(jax.nn.sigmoid(conv(jnp.concatenate([x[None], hidden], -1), gates)), 2, -1)
        new = jnp.tanh(conv(jnp.concatenate([x[None], reset * hidden], -1), candidate))
        hidden = (1 - update) * hidden + update * new
        return hidden, hidden[0]

    return jnp.concatenate([first, lax.scan(step, hidden, second)[1]], -1)


def our_gru(x: Array, hidden: Array, gates: Array, candidate: Array) -> Array:
    channels = hidden.shape[-1]
    biases = {"gates_bias": jnp.zeros(2 * channels, x.dtype), "candidate_bias": jnp.zeros(channels, x.dtype)}
    params = {"gates_kernel": gates, "candidate_kernel": candidate, **biases}
    made, _ = RecurrentHalf().apply({"params": params}, x, hidden)
    return made


def torch_gru(x: torch.Tensor, hidden: torch.Tensor, gates: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, 1)
    made = []
    for frame in second.split(1):
        reset, update = torch.sigmoid(torch_conv(torch.cat([frame, hidden], 1), gates)).chunk(2, 1)
        new = torch.tanh(torch_conv(torch.cat([frame, reset * hidden], 1), candidate))
        hidden = (1 - update) * hidden + update * new
        made.append(hidden)
    return torch.cat([first, torch.cat(made)], 1)


def gathered(x: Array, size: tuple[int, ...]) -> Array:
    """Bilinear interpolation as differentiation turns it into a scatter."""
    for axis in (1, 2):
        taps = linear_taps(x.shape[axis], size[axis - 1], x.shape[axis] / size[axis - 1])
        shape = [-1 if i == axis else 1 for i in range(4)]
        parts = zip(*taps, strict=True)
        x = sum(
            (jnp.take(x, jnp.asarray(i), axis) * jnp.asarray(w.reshape(shape), x.dtype) for i, w in parts),
            start=jnp.zeros((), x.dtype),
        )
    return x


def twice(x: Array) -> tuple[int, int]:
    return 2 * x.shape[1], 2 * x.shape[2]


def linear_model(a: Array, b: Array, frames: Array) -> Array:
    guide = jnp.concatenate([frames, frames.mean(-1, keepdims=True)], -1)
    return gathered(a, frames.shape[1:3]) * guide + gathered(b, frames.shape[1:3])


def torch_linear_model(a: torch.Tensor, b: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    guide = torch.cat([frames, frames.mean(1, keepdim=True)], 1)
    a, b = (F.interpolate(x, frames.shape[2:], mode="bilinear") for x in (a, b))
    return a * guide + b


def contests(small: bool) -> dict[str, Contest]:
    """Every layer; with `small`, of a few pixels each."""

    def px(side: int) -> int:
        return max(8, side // 16) if small else side

    own, depthwise = convolution.conv2d, convolution.depthwise_conv2d
    up = partial(F.interpolate, scale_factor=2, mode="bilinear")
    s32, s64, s128, s256 = (px(side) for side in (32, 64, 128, 256))
    return {
        "depthwise": Contest(
            "depthwise 3×3, 16 channels, 144×256: forward",
            lambda x, k: conv(x, k, groups=16),
            depthwise,
            lambda x, k: torch_conv(x, k, groups=16),
            ((1, px(144), s256, 16), (3, 3, 1, 16)),
        ),
        "depthwise_kernel": Contest(
            "depthwise 5×5, 120 channels, 4×32×32: gradient of the kernel",
            shifted,
            depthwise,
            lambda x, k: torch_conv(x, k, groups=120),
            ((4, s32, s32, 120), (5, 5, 1, 120)),
            (1,),
        ),
        "depthwise_input": Contest(
            "depthwise 5×5 stride 2, 72 channels, 4×64×64: gradient of the input",
            partial(shifted, stride=2),
            partial(depthwise, stride=2),
            lambda x, k: torch_conv(x, k, 2, groups=72),
            ((4, s64, s64, 72), (5, 5, 1, 72)),
            (0,),
        ),
        "few_outputs": Contest(
            "3×3, 16→16, 288×512: forward",
            conv,
            own,
            torch_conv,
            ((1, px(288), px(512), 16), (3, 3, 16, 16)),
        ),
        "few_outputs_kernel": Contest(
            "3×3, 35→16, 4×256×256: gradient of the kernel",
            conv,
            own,
            torch_conv,
            ((4, s256, s256, 35), (3, 3, 35, 16)),
            (1,),
        ),
        "pointwise_kernel": Contest(
            "1×1, 16→64, 4×128×128: gradient of the kernel",
            conv,
            own,
            torch_conv,
            ((4, s128, s128, 16), (1, 1, 16, 64)),
            (1,),
        ),
        "batch_norm": Contest(
            "BatchNorm, 72 channels, 4×64×64: forward and backward",
            batch_norm,
            our_batch_norm,
            lambda x: F.batch_norm(x, None, None, training=True),
            ((4, s64, s64, 72),),
            (0,),
        ),
        "gru": Contest(
            "ConvGRU, T = 4, 16 channels, 128×128: forward and backward",
            gru,
            our_gru,
            torch_gru,
            ((4, s128, s128, 32), (1, s128, s128, 16), (3, 3, 32, 32), (3, 3, 32, 16)),
            (0, 1, 2, 3),
        ),
        "bilinear": Contest(
            "bilinear ×2, 32 channels, 4×128×128: backward",
            lambda x: gathered(x, twice(x)),
            lambda x: upscale_twice(x, twice(x)),
            up,
            ((4, s128, s128, 32),),
            (0,),
        ),
        "linear_model": Contest(
            "guided filter's last step, 480×270 → 3840×2160",
            linear_model,
            guided_filter.apply_linear_model,
            torch_linear_model,
            ((1, px(270), px(480), 4), (1, px(270), px(480), 4), (1, 8 * px(270), 8 * px(480), 3)),
        ),
    }


def jax_call(function: Function, contest: Contest, arrays: list[np.ndarray], dtype: str) -> Callable[[], Any]:
    given = [jnp.asarray(array, dtype) for array in arrays]
    made = jax.eval_shape(function, *given)
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(made.shape), made.dtype)

    @jax.jit
    def run(cotangent: Array, *given: Array) -> Any:
        if not contest.gradients:
            return function(*given)
        _, back = jax.vjp(lambda *some: function(*_replaced(given, contest, some)), *_picked(given, contest))
        return back(cotangent)

    return lambda: jax.block_until_ready(run(cotangent, *given))


def _picked(given: Any, contest: Contest) -> list[Any]:
    return [given[index] for index in contest.gradients]


def _replaced(given: Any, contest: Contest, some: Any) -> list[Any]:
    replaced = dict(zip(contest.gradients, some, strict=True))
    return [replaced.get(index, array) for index, array in enumerate(given)]


def torch_call(contest: Contest, arrays: list[np.ndarray], dtype: str) -> Callable[[], Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = []
    for index, array in enumerate(arrays):
        tensor = torch.tensor(array, dtype=getattr(torch, dtype), device=device)
        is_kernel = array.ndim == 4 and array.shape[0] == array.shape[1] and array.shape[0] < 8
        tensor = tensor if is_kernel else tensor.permute(0, 3, 1, 2)  # its memory keeps channels last
        given.append(tensor.requires_grad_(index in contest.gradients))

    def run() -> None:
        made = contest.torch(*given)
        if contest.gradients:
            torch.autograd.grad(made, _picked(given, contest), torch.ones_like(made))
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def measure(contest: Contest, dtype: str, rounds: int) -> dict[str, float]:
    """Milliseconds of the three, which take turns; a turn is several calls, some 20 ms."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in contest.shapes]
    calls = {
        "plain": jax_call(contest.plain, contest, arrays, dtype),
        "ours": jax_call(contest.ours, contest, arrays, dtype),
        "torch": torch_call(contest, arrays, dtype),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, round(0.02 / max(_seconds(call, 1), 1e-6)))
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call, counts[name]))
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def rows(names: list[str], small: bool, dtype: str, rounds: int) -> Iterator[dict[str, Any]]:
    chosen = contests(small)
    for name in names:
        yield {"layer": name, "what": chosen[name].what, **measure(chosen[name], dtype, rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", choices=contests(small=True), default=list(contests(small=True)))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a few pixels, to try the script")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    device = jax.devices()[0].device_kind
    print(f"{device} ({platform.machine()}), JAX {jax.__version__}, PyTorch {torch.__version__}, {options.precision}\n")
    print("| what | plain | as it is now | PyTorch |\n|---|---|---|---|")
    found = []
    for row in rows(options.layers, options.small, options.precision, options.rounds):
        found.append(row)
        print(f"| {row['what']} | {row['plain']:.2g} | {row['ours']:.2g} | {row['torch']:.2g} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
