"""Reading of the weights in a released `.onnx` file, whose BatchNorm is folded into the convolutions.

Such a file has PyTorch's names for all that was not folded; a folded convolution has a number for a name (or its own,
in what `rvm export` writes), and they stand in the order in which they run, which is that of the state_dict. A
BatchNorm that does nothing but add the folded convolution's bias gives the same network again. Of protobuf only as much
is read as that needs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.model.variants import Variant
from rvm_jax.weights.names import Entry, is_encoder

# Numbers of fields in ONNX's messages.
GRAPH, METADATA = 7, 14  # of a model
NODE, INITIALIZER = 1, 5  # of a graph
INPUT, KIND = 1, 4  # of a node
DIMS, DTYPE, FLOATS, NAME, RAW, LOCATION = 1, 2, 4, 8, 9, 14  # of a tensor
DTYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's kinds of fields


class FoldedNetwork(NamedTuple):
    """Numbers by their names, and in order those that have none: of convolutions kernel `[O, I, h, w]` and bias, of
    linear layers the matrix `[I, O]`."""

    named: dict[str, np.ndarray]
    folded: list[tuple[np.ndarray, np.ndarray]]
    matrices: list[np.ndarray]


def read_folded(path: Path) -> FoldedNetwork:
    """Read a file; raise `InputError` if it is damaged or of another kind."""
    try:
        return _read(memoryview(path.read_bytes()))
    except (IndexError, KeyError, MemoryError, OverflowError, StopIteration, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not an ONNX file, or it is damaged, or its weights lie beside it: give a released file"
        ) from error


def metadata(path: Path) -> dict[str, str]:
    """The texts that a file has beside its graph, by their names; none if it is damaged."""
    try:
        entries = [
            dict(_fields(value)) for number, value in _fields(memoryview(path.read_bytes())) if number == METADATA
        ]
        return {str(entry[1], "utf-8"): str(entry[2], "utf-8") for entry in entries}
    except (IndexError, KeyError, MemoryError, OverflowError, TypeError, ValueError):
        return {}


def state_dict(network: FoldedNetwork, variant: Variant, table: list[Entry]) -> dict[str, np.ndarray] | None:
    """The state_dict of a variant; None if it has not as many folded convolutions, or others.

    `project_seg`, which a file for matting lacks, is zero.
    """
    found = restore(network, table, lambda entry: variant.norm_epsilon(encoder=is_encoder(entry)))
    if found is None or "project_mat.conv.weight" not in found:
        return None
    found.setdefault("project_seg.conv.weight", np.zeros((1, *found["project_mat.conv.weight"].shape[1:]), np.float32))
    found.setdefault("project_seg.conv.bias", np.zeros(1, np.float32))
    return found


def restore(
    network: FoldedNetwork, table: list[Entry], epsilon: Callable[[Entry], float]
) -> dict[str, np.ndarray] | None:
    """The entries of `table` that a file holds, with BatchNorms that do no more than add the bias of what was folded.

    None if it has not as many folded convolutions. `epsilon` is that of the BatchNorm with a given scale.
    """
    named = {entry.name: entry for entry in table}
    found = {name: array for name, array in network.named.items() if name in named}
    folded, matrices = list(network.folded), list(network.matrices)
    for number, entry in enumerate(table):
        if len(entry.shape) == 2:
            if entry.name not in found and matrices:
                found[entry.name] = matrices.pop(0).T
            if entry.name in found:  # as a 1×1 convolution, in what is exported here
                found[entry.name] = found[entry.name].reshape(found[entry.name].shape[:2])
        if entry.path[-1] == "count":
            found[entry.name] = np.zeros((), np.int64)
        if entry.path[-1] != "scale" or entry.name in found:
            continue
        has_bias = table[number - 1].path[-1] == "bias"
        kernel_entry = table[number - 1 - has_bias]
        bias = network.named.get(kernel_entry.name.removesuffix("weight") + "bias")
        if kernel_entry.name not in found and folded:
            found[kernel_entry.name], bias = folded.pop(0)
        if kernel_entry.name not in found or bias is None:
            return None
        ones = np.ones(entry.shape, bias.dtype)
        if has_bias:
            found[table[number - 1].name], bias = bias, 0 * ones
        for one, value in zip(table[number:], (ones, bias, 0 * ones, (1 - epsilon(entry)) * ones), strict=False):
            found[one.name] = value
    return None if folded else found


def _read(model: memoryview) -> FoldedNetwork:
    graph = next(value for number, value in _fields(model) if number == GRAPH)
    tensors: dict[str, np.ndarray] = {}
    weighted: dict[bytes, list[list[str]]] = {b"Conv": [], b"MatMul": []}
    for number, value in _fields(graph):
        if number == INITIALIZER:
            name, array = _tensor(value)
            if array is not None:
                tensors[name] = array
        elif number == NODE:
            fields = list(_fields(value))
            operator = next(bytes(text) for kind, text in fields if kind == KIND)
            if operator in weighted:
                names = [str(text, "utf-8") for kind, text in fields if kind == INPUT][1:]
                if names[0].isdecimal() or names[0].startswith("onnx::"):
                    weighted[operator].append(names)
    folded = [(tensors[kernel], tensors[bias]) for kernel, bias in weighted[b"Conv"]]
    return FoldedNetwork(tensors, folded, [tensors[names[0]] for names in weighted[b"MatMul"] if names[0] in tensors])


def _tensor(message: memoryview) -> tuple[str, np.ndarray | None]:
    """A tensor and its name; None for one of another dtype, such as a shape."""
    fields = list(_fields(message))
    name = "".join(str(value, "utf-8") for number, value in fields if number == NAME)
    if any(number == LOCATION and value for number, value in fields):
        raise ValueError("the numbers lie in another file")
    dtype: Any = DTYPES.get(next(value for number, value in fields if number == DTYPE))
    if dtype is None:
        return name, None
    content = b"".join(value for number, value in fields if number in (RAW, FLOATS) and not isinstance(value, int))
    dims = [
        size
        for number, value in fields
        if number == DIMS
        for size in ([value] if isinstance(value, int) else _varints(value))
    ]
    return name, np.frombuffer(content, dtype).reshape(dims)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """The number of each field of a message and what it holds: an integer, or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(kind)
        if kind == BYTES:
            size, at = _varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("no protobuf")
        yield number, message[at : at + size]
        at += size


def _varints(packed: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return values


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("no protobuf")
