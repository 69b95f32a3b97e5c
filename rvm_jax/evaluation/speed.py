"""Size and speed of a network: parameters, multiply-adds, frames a second."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.baselines.refiner import ValidConv
from rvm_jax.evaluation.methods import AnyMatte, takes_ratio
from rvm_jax.model.decoder import RecurrentHalf
from rvm_jax.model.layers import Conv

SIZES = {"HD": (1080, 1920, 0.25), "4K": (2160, 3840, 0.125)}
"""Height, width and down-sampling ratio of the published figures."""

COUNTED = Conv | RecurrentHalf | ValidConv | nn.Dense
"""The layers that multiply."""

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


def parameters(matte: AnyMatte) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(matte.variables["params"]))


def measure_all(networks: Mapping[str, AnyMatte]) -> dict[str, tuple[int, dict[str, Speed]]]:
    """Parameters of networks by name, and their speed at each of `SIZES`."""
    return {
        name: (parameters(matte), {size: measure(matte, size, name) for size in SIZES})
        for name, matte in networks.items()
    }


def measure(matte: AnyMatte, size: str, name: str) -> Speed:
    """At one of `SIZES`, on whatever device JAX has. Why it could not, such as for memory, goes to stderr."""
    height, width, ratio = SIZES[size]
    try:
        rate = frames_per_second(matte, (height, width), ratio)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        print(f"rvm: {name} at {size} cannot be timed: {reason}", file=sys.stderr)
        rate = None
    return Speed(multiply_adds(matte, (height, width), ratio), rate)


def multiply_adds(matte: AnyMatte, size: tuple[int, int], ratio: float) -> int:
    """Counted from the shapes of all convolutions; nothing is computed."""
    total = 0

    def count(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal total
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, COUNTED):
            output = result[0] if isinstance(result, tuple) else result
            kernels = jax.tree.leaves({k: v for k, v in context.module.variables["params"].items() if "kernel" in k})
            total += prod(output.shape[:-1]) * sum(kernel.size for kernel in kernels)
        return result

    if isinstance(matte, BaselineMatte):
        matte = _at(matte, ratio)
        apply = matte.network.apply
        arguments = [jax.ShapeDtypeStruct((1, *matte.seen(size), 3), np.float32)] * (1 + len(matte.needs))
    else:
        apply = partial(matte.network.apply, downsample_ratio=ratio)
        arguments = [jax.ShapeDtypeStruct((1, 1, *size, 3), np.float32)]
    with nn.intercept_methods(count):
        jax.eval_shape(apply, matte.variables, *arguments)
    return total


def frames_per_second(matte: AnyMatte, size: tuple[int, int], ratio: float) -> float:
    frames = jax.device_put(np.random.default_rng(0).random((1, 1, *size, 3), np.float32))
    if isinstance(matte, BaselineMatte):
        return _rate(_run_of_baseline(_at(matte, ratio), frames), None)
    network, variables = matte.network, matte.variables
    run = jax.jit(lambda variables, frames, state: network.apply(variables, frames, state, ratio), donate_argnums=2)
    state = network.initial_state(1, size, ratio, np.float32)
    return _rate(lambda state: run(variables, frames, state), state)


def _run_of_baseline(matte: BaselineMatte, frames: jax.Array) -> Callable[[Any], Any]:
    given: Any = {"background": frames} if matte.needs else {}
    return lambda state: matte(frames, **given)


def _rate(run: Callable[[Any], Any], state: Any) -> float:
    """How often a second it runs, each time with the state that it gave before."""
    result: Any = jax.block_until_ready(run(state))  # compiles
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < SECONDS or count == 0:
        result = jax.block_until_ready(run(result.state))
        count += 1
    return count / spent


def _at(matte: BaselineMatte, ratio: float) -> BaselineMatte:
    """The network for a size at which RVM takes this ratio."""
    return replace(matte, network=matte.network.clone(scale=ratio)) if takes_ratio(matte) else matte
