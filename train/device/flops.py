"""Floating point operations: how many a function takes, and how many a device can do in a second.

XLA's own count has the body of a loop once, however often it runs: the recurrence over time and the
parts of a batch would be missing. Here loops count as often as they run. Of a program without loops the two agree
within some percent, which are XLA's for what is no product.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

TERA = 1e12
PEAKS = {
    # cloud.google.com/tpu/docs: v2, v3 (a device is one of two cores), v4, v5e, v5p, v6e
    "TPU v2": 23,
    "TPU v3": 61.5,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5e": 197,
    "TPU v5": 459,
    "TPU v5p": 459,
    "TPU v6 lite": 918,
    "TPU v6e": 918,
    # NVIDIA's data sheets, tensor cores without sparsity; of V100 and T4 in float16, as they have no bfloat16
    "Tesla V100-SXM2-16GB": 125,
    "Tesla V100-SXM2-32GB": 125,
    "Tesla T4": 65,
    "NVIDIA A10G": 70,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA L4": 121,
    "NVIDIA L40S": 362,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H200": 989,
    "NVIDIA B200": 2250,
}
"""Published TFLOP/s of a device in bfloat16, by JAX's name for it."""


def peak() -> float | None:
    """Floating point operations a second that this kind of device can do, in bfloat16; None if that is not known."""
    found = PEAKS.get(jax.local_devices()[0].device_kind)
    return None if found is None else found * TERA


def count(function: Callable[..., Any], *arguments: Any) -> float:
    """Operations of all convolutions and matrix products of a call; of a function of all devices, those of each."""
    return float(_count(jax.make_jaxpr(function)(*arguments).jaxpr))


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        made, *_ = [prod(_shape(one)) for one in equation.outvars] or [0]
        match equation.primitive.name:
            case "dot_general":
                (summed, _), _ = equation.params["dimension_numbers"]
                total += 2 * made * prod(_shape(equation.invars[0])[axis] for axis in summed)
            case "conv_general_dilated":
                kernel, layout = _shape(equation.invars[1]), equation.params["dimension_numbers"].rhs_spec
                zeros = prod(equation.params["lhs_dilation"])  # that many of the inputs are the zeros between
                total += 2 * made * prod(kernel) // kernel[layout[0]] // zeros
            case "cond":  # also the forms that platforms have of the same thing: what it needs, not what forms add
                total += min(filter(None, map(_count, _inner(equation.params))), default=0)
            case name:
                total += sum(map(_count, _inner(equation.params))) * (
                    equation.params["length"] if name == "scan" else 1
                )
    return total


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one
