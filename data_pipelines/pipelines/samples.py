"""Samples in memory: where the layers of a batch lie, and the pixels of its samples made in place."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Plan = Mapping[str, Any]
"""All that is drawn for one clip, as tensors or, to make its pixels, as NumPy arrays; stacked, for several."""
Render = Callable[..., Any]
"""`render(plan, out=layers)` makes the pixels of one clip. Worker processes get it pickled."""
Shapes = Sequence[tuple[int, ...]]

ALIGNMENT = 64
"""Of each layer in memory, in bytes: JAX takes no other for its CPU devices without a copy."""


def byte_count(shapes: Shapes) -> int:
    """How much memory layers of uint8 need."""
    return sum(_aligned(math.prod(shape)) for shape in shapes)


def layers(memory: np.ndarray, shapes: Shapes) -> list[np.ndarray]:
    """Layers of these shapes in memory, uint8 [bytes]."""
    made, start = [], 0
    for shape in shapes:
        made.append(memory[start : start + math.prod(shape)].reshape(shape))
        start += _aligned(math.prod(shape))
    return made


def stretch(plans: Plan, samples: slice) -> Plan:
    """The plans of some samples of a batch, of the plans of all."""
    return _each(plans, operator.itemgetter(samples))


def make(render: Render, plans: Plan, batch: Sequence[np.ndarray], first: int) -> None:
    """Make the samples of these plans, in the layers of their batch from sample `first` on."""
    for index in range(len(plans["height"])):
        plan = _each(plans, operator.itemgetter(index))
        render(plan, out=[layer[first + index] for layer in batch])


def _each(plans: Plan, change: Callable[[np.ndarray], Any]) -> Plan:
    return {name: _each(part, change) if isinstance(part, Mapping) else change(part) for name, part in plans.items()}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
