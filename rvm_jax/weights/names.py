"""One explicit two-way table between the entries of a PyTorch state_dict and the variables of the Flax network.

The table lists every layer once, in the order of a released state_dict. Kernels are `[O, I, h, w]` there and
`[h, w, I, O]` here, which for a depthwise kernel is `[C, 1, h, w]` and `[h, w, 1, C]`: one transposition serves all
but those of linear layers, `[O, I]` and `[I, O]`. Everything else (biases, statistics, counts) keeps its shape. No
PyTorch is needed: the arrays are NumPy's.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rvm_jax.model.variants import MobileNetV3, Refiner, ResNet, Variant

Variables = dict[str, Any]

TO_FLAX = (2, 3, 1, 0)  # [O, I, h, w] → [h, w, I, O]
TO_TORCH = (3, 2, 0, 1)


class Entry(NamedTuple):
    """A state_dict name, the path of its Flax variable, and whether the array is a kernel, to be transposed."""

    name: str
    path: tuple[str, ...]
    kernel: bool = False


def entries(variant: Variant, refiner: Refiner = "deep_guided_filter") -> list[Entry]:
    """The whole table of a network."""
    encoder = variant.encoder
    table = [
        *(_mobilenetv3(encoder) if isinstance(encoder, MobileNetV3) else resnet_entries(encoder)),
        *conv_entries("aspp.aspp1.0", "aspp/value_conv"),
        *norm_entries("aspp.aspp1.1", "aspp/value_norm"),
        *conv_entries("aspp.aspp2.1", "aspp/gate_conv"),
        *_gru("decoder.decode4.gru", "decoder/gru4"),
    ]
    for scale in ("3", "2", "1"):
        table += conv_entries(f"decoder.decode{scale}.conv.0", f"decoder/conv{scale}")
        table += norm_entries(f"decoder.decode{scale}.conv.1", f"decoder/norm{scale}")
        table += _gru(f"decoder.decode{scale}.gru", f"decoder/gru{scale}")
    table += [
        *conv_entries("decoder.decode0.conv.0", "decoder/conv0"),
        *norm_entries("decoder.decode0.conv.1", "decoder/norm0"),
        *conv_entries("decoder.decode0.conv.3", "decoder/conv0b"),
        *norm_entries("decoder.decode0.conv.4", "decoder/norm0b"),
        *conv_entries("project_mat.conv", "project_mat", bias=True),
        *conv_entries("project_seg.conv", "project_seg", bias=True),
    ]
    if refiner == "deep_guided_filter":
        table += [
            Entry("refiner.box_filter.weight", ("params", "refiner", "box_kernel"), kernel=True),
            *conv_entries("refiner.conv.0", "refiner/conv1"),
            *norm_entries("refiner.conv.1", "refiner/norm1"),
            *conv_entries("refiner.conv.3", "refiner/conv2"),
            *norm_entries("refiner.conv.4", "refiner/norm2"),
            *conv_entries("refiner.conv.6", "refiner/conv3", bias=True),
        ]
    return table


def is_encoder(entry: Entry) -> bool:
    return entry.path[1] == "encoder"


def torch_shape(entry: Entry, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The state_dict's shape of a variable of the given shape."""
    return tuple(shape[axis] for axis in _axes(TO_TORCH, len(shape))) if entry.kernel else shape


def _axes(order: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    return order if ndim == 4 else (1, 0)


def _mobilenetv3(encoder: MobileNetV3) -> Iterator[Entry]:
    yield from conv_entries("backbone.features.0.0", "encoder/stem_conv")
    yield from norm_entries("backbone.features.0.1", "encoder/stem_norm")
    for number, inputs, block in encoder.numbered_blocks():
        for index, part in enumerate(block.parts(inputs)):
            name, path = f"backbone.features.{number}.block.{index}", f"encoder/block{number}/{part}"
            if part == "squeeze_excite":
                yield from conv_entries(f"{name}.fc1", f"{path}/squeeze", bias=True)
                yield from conv_entries(f"{name}.fc2", f"{path}/excite", bias=True)
            else:
                yield from conv_entries(f"{name}.0", f"{path}_conv")
                yield from norm_entries(f"{name}.1", f"{path}_norm")
    yield from conv_entries(f"backbone.features.{len(encoder.blocks) + 1}.0", "encoder/last_conv")
    yield from norm_entries(f"backbone.features.{len(encoder.blocks) + 1}.1", "encoder/last_norm")


def resnet_entries(encoder: ResNet) -> Iterator[Entry]:
    """A bottleneck ResNet, without a classifier."""
    yield from conv_entries("backbone.conv1", "encoder/stem_conv")
    yield from norm_entries("backbone.bn1", "encoder/stem_norm")
    for block in encoder.blocks():
        name = f"backbone.layer{block.layer}.{block.number}"
        path = f"encoder/layer{block.layer}_block{block.number}"
        for part in ("1", "2", "3"):
            yield from conv_entries(f"{name}.conv{part}", f"{path}/conv{part}")
            yield from norm_entries(f"{name}.bn{part}", f"{path}/norm{part}")
        if block.skip_conv:
            yield from conv_entries(f"{name}.downsample.0", f"{path}/skip_conv")
            yield from norm_entries(f"{name}.downsample.1", f"{path}/skip_norm")


def conv_entries(name: str, path: str, bias: bool = False) -> Iterator[Entry]:
    """A convolution or a linear layer."""
    yield Entry(f"{name}.weight", ("params", *path.split("/"), "kernel"), kernel=True)
    if bias:
        yield Entry(f"{name}.bias", ("params", *path.split("/"), "bias"))


def norm_entries(name: str, path: str) -> Iterator[Entry]:
    """A BatchNorm, with its statistics."""
    yield Entry(f"{name}.weight", ("params", *path.split("/"), "scale"))
    yield Entry(f"{name}.bias", ("params", *path.split("/"), "bias"))
    yield Entry(f"{name}.running_mean", ("batch_stats", *path.split("/"), "mean"))
    yield Entry(f"{name}.running_var", ("batch_stats", *path.split("/"), "var"))
    yield Entry(f"{name}.num_batches_tracked", ("batch_stats", *path.split("/"), "count"))


def _gru(name: str, path: str) -> Iterator[Entry]:
    for part, gate in (("ih", "gates"), ("hh", "candidate")):
        yield Entry(f"{name}.{part}.0.weight", ("params", *path.split("/"), f"{gate}_kernel"), kernel=True)
        yield Entry(f"{name}.{part}.0.bias", ("params", *path.split("/"), f"{gate}_bias"))


def to_variables(state_dict: Mapping[str, np.ndarray], table: list[Entry]) -> Variables:
    """The Flax variables of a state_dict that has the entries of `table`."""
    variables: Variables = {}
    for name, path, kernel in table:
        node = variables
        for key in path[:-1]:
            node = node.setdefault(key, {})
        array = np.asarray(state_dict[name])
        if path[-1] == "count":
            array = array.astype(np.int32)  # int64 there; JAX has it only in x64 mode
        node[path[-1]] = np.ascontiguousarray(array.transpose(_axes(TO_FLAX, array.ndim))) if kernel else array
    return variables


def to_state_dict(variables: Variables, table: list[Entry]) -> dict[str, np.ndarray]:
    """The state_dict of Flax variables, in the order of `table`."""
    state_dict = {}
    for name, path, kernel in table:
        node: Any = variables
        for key in path:
            node = node[key]
        array = np.asarray(node)
        if path[-1] == "count":
            array = array.astype(np.int64)
        state_dict[name] = np.ascontiguousarray(array.transpose(_axes(TO_TORCH, array.ndim))) if kernel else array
    return state_dict
