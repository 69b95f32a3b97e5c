"""One explicit two-way table between the entries of a PyTorch state_dict and the variables of the Flax network.

The table lists every layer once, in the order of a released state_dict, and its shape, so that no network is traced to
check a file. Kernels are `[O, I, h, w]` there and `[h, w, I, O]` here, which for a depthwise kernel is `[C, 1, h, w]`
and `[h, w, 1, C]`: one transposition serves all but those of linear layers, `[O, I]` and `[I, O]`. Everything else
(biases, statistics, counts) keeps its shape. No PyTorch is needed: the arrays are NumPy's.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rvm_jax.model.variants import MobileNetV3, Refiner, ResNet, Variant

Variables = dict[str, Any]

TO_FLAX = (2, 3, 1, 0)  # [O, I, h, w] → [h, w, I, O]
TO_TORCH = (3, 2, 0, 1)

# What is in the names of another network alone, PyTorch's and Flax's.
BASELINES = {
    "lr_branch.": "MODNet",
    "f_branch.": "MODNet",
    "hr_branch.": "MODNet",
    "stage1.": "U²-Net",
    "stage6.": "U²-Net",
    "outconv.": "U²-Net",
    "aspp.convs.": "BackgroundMattingV2",
    "aspp.pool.": "BackgroundMattingV2",
    "decoder.up1.": "BackgroundMattingV2",
    "decoder.conv4.": "BackgroundMattingV2",
}


class Entry(NamedTuple):
    """A state_dict name, and the path and the shape of its Flax variable; a kernel has four axes, or two if linear."""

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def kernel(self) -> bool:
        """Whether the array is transposed."""
        return len(self.shape) > 1

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The state_dict's shape."""
        return tuple(self.shape[axis] for axis in _axes(self, TO_TORCH)) if self.kernel else self.shape


def _axes(entry: Entry, order: tuple[int, ...]) -> tuple[int, ...]:
    """How a kernel is transposed."""
    return order if len(entry.shape) == 4 else (1, 0)


def entries(variant: Variant, refiner: Refiner = "deep_guided_filter") -> list[Entry]:
    """The whole table of a network."""
    encoder = variant.encoder
    frames, hidden, target = 3, variant.decoder[-1], 4
    features, (f1, f2, f3, f4) = variant.aspp, encoder.tap_features
    table = [
        *(_mobilenetv3(encoder) if isinstance(encoder, MobileNetV3) else resnet_entries(encoder, frames)),
        *conv_entries("aspp.aspp1.0", "aspp/value_conv", (1, f4, features)),
        *norm_entries("aspp.aspp1.1", "aspp/value_norm", features),
        *conv_entries("aspp.aspp2.1", "aspp/gate_conv", (1, f4, features)),
        *_gru("decoder.decode4.gru", "decoder/gru4", features // 2),
    ]
    for scale, skip, width in zip("321", (f3, f2, f1), variant.decoder[:3], strict=True):
        table += conv_entries(
            f"decoder.decode{scale}.conv.0", f"decoder/conv{scale}", (3, features + skip + frames, width)
        )
        table += norm_entries(f"decoder.decode{scale}.conv.1", f"decoder/norm{scale}", width)
        table += _gru(f"decoder.decode{scale}.gru", f"decoder/gru{scale}", width // 2)
        features = width
    table += [
        *conv_entries("decoder.decode0.conv.0", "decoder/conv0", (3, features + frames, hidden)),
        *norm_entries("decoder.decode0.conv.1", "decoder/norm0", hidden),
        *conv_entries("decoder.decode0.conv.3", "decoder/conv0b", (3, hidden, hidden)),
        *norm_entries("decoder.decode0.conv.4", "decoder/norm0b", hidden),
        *conv_entries("project_mat.conv", "project_mat", (1, hidden, target), bias=True),
        *conv_entries("project_seg.conv", "project_seg", (1, hidden, 1), bias=True),
    ]
    if refiner == "deep_guided_filter":
        table += [
            Entry("refiner.box_filter.weight", ("params", "refiner", "box_kernel"), (3, 3, 1, target)),
            *conv_entries("refiner.conv.0", "refiner/conv1", (1, 2 * target + hidden, hidden)),
            *norm_entries("refiner.conv.1", "refiner/norm1", hidden),
            *conv_entries("refiner.conv.3", "refiner/conv2", (1, hidden, hidden)),
            *norm_entries("refiner.conv.4", "refiner/norm2", hidden),
            *conv_entries("refiner.conv.6", "refiner/conv3", (1, hidden, target), bias=True),
        ]
    return table


def baseline_family(names: Iterable[str]) -> str | None:
    """Which of the networks in `rvm_jax.baselines` has entries, or Flax variables, of these names; None if none has."""
    for name in names:
        for mark, family in BASELINES.items():
            if mark in name.replace("/", "."):
                return family
    return None


def is_encoder(entry: Entry) -> bool:
    return entry.path[1] == "encoder"


def _mobilenetv3(encoder: MobileNetV3) -> Iterator[Entry]:
    yield from conv_entries("backbone.features.0.0", "encoder/stem_conv", (3, 3, encoder.stem))
    yield from norm_entries("backbone.features.0.1", "encoder/stem_norm", encoder.stem)
    for number, inputs, block in encoder.numbered_blocks():
        wide, squeezed = block.expanded, block.squeezed
        convolutions = {
            "expand": (1, inputs, wide),
            "depthwise": (block.kernel, 1, wide),
            "project": (1, wide, block.features),
        }
        for index, part in enumerate(block.parts(inputs)):
            name, path = f"backbone.features.{number}.block.{index}", f"encoder/block{number}/{part}"
            if part == "squeeze_excite":
                yield from conv_entries(f"{name}.fc1", f"{path}/squeeze", (1, wide, squeezed), bias=True)
                yield from conv_entries(f"{name}.fc2", f"{path}/excite", (1, squeezed, wide), bias=True)
            else:
                yield from conv_entries(f"{name}.0", f"{path}_conv", convolutions[part])
                yield from norm_entries(f"{name}.1", f"{path}_norm", convolutions[part][-1])
    name = f"backbone.features.{len(encoder.blocks) + 1}"
    yield from conv_entries(f"{name}.0", "encoder/last_conv", (1, encoder.blocks[-1].features, encoder.last))
    yield from norm_entries(f"{name}.1", "encoder/last_norm", encoder.last)


def resnet_entries(encoder: ResNet, channels: int) -> Iterator[Entry]:
    """A bottleneck ResNet that images of `channels` enter, without a classifier."""
    yield from conv_entries("backbone.conv1", "encoder/stem_conv", (7, channels, encoder.stem))
    yield from norm_entries("backbone.bn1", "encoder/stem_norm", encoder.stem)
    for block in encoder.blocks():
        name = f"backbone.layer{block.layer}.{block.number}"
        path = f"encoder/layer{block.layer}_block{block.number}"
        width, features = block.width, block.features
        for part, sides in (("1", (1, block.inputs, width)), ("2", (3, width, width)), ("3", (1, width, features))):
            yield from conv_entries(f"{name}.conv{part}", f"{path}/conv{part}", sides)
            yield from norm_entries(f"{name}.bn{part}", f"{path}/norm{part}", sides[-1])
        if block.skip_conv:
            yield from conv_entries(f"{name}.downsample.0", f"{path}/skip_conv", (1, block.inputs, features))
            yield from norm_entries(f"{name}.downsample.1", f"{path}/skip_norm", features)


def conv_entries(name: str, path: str, sides: tuple[int, int, int], bias: bool = False) -> Iterator[Entry]:
    """A convolution; `sides` are those of its kernel: its size in both directions, inputs and outputs."""
    size, inputs, outputs = sides
    yield Entry(f"{name}.weight", ("params", *path.split("/"), "kernel"), (size, size, inputs, outputs))
    if bias:
        yield Entry(f"{name}.bias", ("params", *path.split("/"), "bias"), (outputs,))


def norm_entries(name: str, path: str, features: int) -> Iterator[Entry]:
    """A BatchNorm, with its statistics."""
    yield Entry(f"{name}.weight", ("params", *path.split("/"), "scale"), (features,))
    yield Entry(f"{name}.bias", ("params", *path.split("/"), "bias"), (features,))
    yield Entry(f"{name}.running_mean", ("batch_stats", *path.split("/"), "mean"), (features,))
    yield Entry(f"{name}.running_var", ("batch_stats", *path.split("/"), "var"), (features,))
    yield Entry(f"{name}.num_batches_tracked", ("batch_stats", *path.split("/"), "count"), ())


def _gru(name: str, path: str, channels: int) -> Iterator[Entry]:
    """`channels` are those of the memory."""
    for part, gate, outputs in (("ih", "gates", 2 * channels), ("hh", "candidate", channels)):
        kernel = (3, 3, 2 * channels, outputs)
        yield Entry(f"{name}.{part}.0.weight", ("params", *path.split("/"), f"{gate}_kernel"), kernel)
        yield Entry(f"{name}.{part}.0.bias", ("params", *path.split("/"), f"{gate}_bias"), (outputs,))


def to_variables(state_dict: Mapping[str, np.ndarray], table: list[Entry]) -> Variables:
    """The Flax variables of a state_dict that has the entries of `table`."""
    variables: Variables = {}
    for entry in table:
        name, path, _ = entry
        node = variables
        for key in path[:-1]:
            node = node.setdefault(key, {})
        array = np.asarray(state_dict[name])
        if path[-1] == "count":
            array = array.astype(np.int32)  # int64 there; JAX has it only in x64 mode
        node[path[-1]] = np.ascontiguousarray(array.transpose(_axes(entry, TO_FLAX))) if entry.kernel else array
    return variables


def to_state_dict(variables: Variables, table: list[Entry]) -> dict[str, np.ndarray]:
    """The state_dict of Flax variables, in the order of `table`."""
    state_dict = {}
    for entry in table:
        name, path, _ = entry
        node: Any = variables
        for key in path:
            node = node[key]
        array = np.asarray(node)
        if path[-1] == "count":
            array = array.astype(np.int64)
        state_dict[name] = np.ascontiguousarray(array.transpose(_axes(entry, TO_TORCH))) if entry.kernel else array
    return state_dict
