"""Size and speed of a network: parameters, multiply-adds, frames a second."""

import sys
import time
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rvm_jax.matte import Matte
from rvm_jax.model.decoder import RecurrentHalf
from rvm_jax.model.layers import Conv

SIZES = {"HD": (1080, 1920, 0.25), "4K": (2160, 3840, 0.125)}
"""Height, width and down-sampling ratio of the published figures."""

SECONDS = 2.0
"""How long frames are timed."""


class Speed(NamedTuple):
    multiply_adds: int
    """Of the convolutions, for a frame."""
    frames_per_second: float | None
    """One frame after the other, which are on the device already; None if the device could not."""


def device() -> str:
    """The device that is measured."""
    first = jax.devices()[0]
    return f"{first.platform} ({first.device_kind})" if first.device_kind != first.platform else first.platform


def parameters(matte: Matte) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(matte.variables["params"]))


def measure_all(networks: Mapping[str, Matte]) -> dict[str, tuple[int, dict[str, Speed]]]:
    """Parameters of networks by name, and their speed at each of `SIZES`."""
    return {
        name: (parameters(matte), {size: measure(matte, size, name) for size in SIZES})
        for name, matte in networks.items()
    }


def measure(matte: Matte, size: str, name: str) -> Speed:
    """At one of `SIZES`, on whatever device JAX has. Why it could not, such as for memory, goes to stderr."""
    height, width, ratio = SIZES[size]
    try:
        rate = frames_per_second(matte, (height, width), ratio)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        print(f"rvm: {name} at {size} cannot be timed: {reason}", file=sys.stderr)
        rate = None
    return Speed(multiply_adds(matte, (height, width), ratio), rate)


def multiply_adds(matte: Matte, size: tuple[int, int], ratio: float) -> int:
    """Counted from the shapes of all convolutions; nothing is computed."""
    total = 0

    def count(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal total
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, Conv | RecurrentHalf):
            output = result[0] if isinstance(result, tuple) else result
            kernels = jax.tree.leaves({k: v for k, v in context.module.variables["params"].items() if "kernel" in k})
            total += prod(output.shape[:-1]) * sum(kernel.size for kernel in kernels)
        return result

    frames = jax.ShapeDtypeStruct((1, 1, *size, 3), np.float32)
    with nn.intercept_methods(count):
        jax.eval_shape(lambda variables, x: matte.network.apply(variables, x, None, ratio), matte.variables, frames)
    return total


def frames_per_second(matte: Matte, size: tuple[int, int], ratio: float) -> float:
    network = matte.network
    run = jax.jit(lambda variables, frames, state: network.apply(variables, frames, state, ratio), donate_argnums=2)
    frames = jax.device_put(np.random.default_rng(0).random((1, 1, *size, 3), np.float32))
    state = network.initial_state(1, size, ratio, np.float32)
    result: Any = jax.block_until_ready(run(matte.variables, frames, state))  # compiles
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < SECONDS or count == 0:
        result = jax.block_until_ready(run(matte.variables, frames, result.state))
        count += 1
    return count / spent
