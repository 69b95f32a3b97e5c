"""The entries of the baselines' released state_dicts, in their order, and the Flax variables that hold them."""

from collections.abc import Iterator

import jax
import numpy as np

from rvm_jax.baselines.background_matting import BACKBONES, MattingBase, MattingRefine
from rvm_jax.baselines.mobilenetv2 import STRIDED, MobileNetV2
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.u2net import VARIANTS, Block, U2Net
from rvm_jax.weights.names import Entry, Variables, conv_entries, norm_entries, resnet_entries

Baseline = MODNet | U2Net | MattingBase | MattingRefine
Sides = tuple[int, int, int]  # of a kernel: its size in both directions, inputs and outputs

IMAGE = 3  # channels


def entries(network: Baseline) -> list[Entry]:
    """The whole table of a network, for `rvm_jax.weights.names`. MODNet's backbone is twice in it, as in its files."""
    match network:
        case MODNet():
            return list(_modnet())
        case U2Net():
            return list(_u2net(network.variant))
        case MattingBase():
            return list(_matting_base(network.backbone))
        case MattingRefine():
            return [*_matting_base(network.backbone), *_refiner(network.kernel_size)]


def name_of(network: Baseline) -> str:
    """What files and tables call a network; with `NETWORKS` the other way round."""
    match network:
        case MODNet():
            return "modnet"
        case U2Net():
            return network.variant
        case MattingBase():
            return f"bgmv2_base_{network.backbone}"
        case MattingRefine():
            return f"bgmv2_{network.backbone}{'_k1' if network.kernel_size == 1 else ''}"


def describe(network: Baseline, variables: Variables) -> str:
    """A network in a few words for a person."""
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
    return f"{name_of(network)}, {count:,} parameters"


_ALL: list[Baseline] = [MODNet(), *map(U2Net, VARIANTS), *map(MattingBase, BACKBONES)]
_ALL += [MattingRefine(backbone, kernel_size=size) for size in (3, 1) for backbone in BACKBONES]

NETWORKS = {name_of(network): network for network in _ALL}
"""Every network with the options that it has by default."""


def _u2net(variant: str) -> Iterator[Entry]:
    table = VARIANTS[variant]
    inputs = IMAGE
    for block in table.encoder:
        yield from _u_block(block, inputs)
        inputs = block.features
    for block, skip in zip(table.decoder, table.encoder[-2::-1], strict=True):
        yield from _u_block(block, inputs + skip.features)
        inputs = block.features
    heads = (*table.decoder[::-1], table.encoder[-1])
    for number, block in enumerate(heads, 1):
        yield from conv_entries(f"side{number}", f"side{number}", (3, block.features, 1), bias=True)
    yield from conv_entries("outconv", "outconv", (1, len(heads), 1), bias=True)


def _u_block(block: Block, inputs: int) -> Iterator[Entry]:
    inside, features = block.inside, block.features
    special = {"in": (inputs, features), "1": (features, inside), "1d": (2 * inside, features)}
    for unit in block.units():
        entering, leaving = special.get(unit, (2 * inside if unit.endswith("d") else inside, inside))
        name, path = f"{block.name}.rebnconv{unit}", f"{block.name}/unit{unit}"
        yield from conv_entries(f"{name}.conv_s1", f"{path}/conv", (3, entering, leaving), bias=True)
        yield from norm_entries(f"{name}.bn_s1", f"{path}/norm", leaving)


def _modnet() -> Iterator[Entry]:
    for owner in ("", "lr_branch."):
        yield from _mobilenetv2(STRIDED, f"{owner}backbone.model.features", IMAGE, nested=False)
    deep = STRIDED.last
    for part, index, inputs, outputs in (("squeeze", 0, deep, deep // 4), ("excite", 2, deep // 4, deep)):
        path = ("params", "lr_branch", "se_block", part, "kernel")
        yield Entry(f"lr_branch.se_block.fc.{index}.weight", path, (inputs, outputs))
    yield from _ib_conv("lr_branch", "conv_lr16x", (5, deep, 96))
    yield from _ib_conv("lr_branch", "conv_lr8x", (5, 96, 32))
    yield from conv_entries("lr_branch.conv_lr.layers.0", "lr_branch/conv_lr", (3, 32, 1), bias=True)
    yield from _ib_conv("hr_branch", "tohr_enc2x", (1, 16, 32))
    yield from _ib_conv("hr_branch", "conv_enc2x", (3, 32 + IMAGE, 32))
    yield from _ib_conv("hr_branch", "tohr_enc4x", (1, 24, 32))
    yield from _ib_conv("hr_branch", "conv_enc4x", (3, 64, 64))
    for number, (inputs, outputs) in enumerate(((96 + IMAGE, 64), (64, 64), (64, 32))):
        yield from _ib_conv("hr_branch", "conv_hr4x", (3, inputs, outputs), number)
    for number, (inputs, outputs) in enumerate(((64, 64), (64, 32), (32, 32), (32, 32))):
        yield from _ib_conv("hr_branch", "conv_hr2x", (3, inputs, outputs), number)
    yield from _ib_conv("hr_branch", "conv_hr", (3, 32 + IMAGE, 32), 0)
    yield from conv_entries("hr_branch.conv_hr.1.layers.0", "hr_branch/conv_hr_1", (1, 32, 1), bias=True)
    yield from _ib_conv("f_branch", "conv_lr4x", (5, 32, 32))
    yield from _ib_conv("f_branch", "conv_f2x", (3, 64, 32))
    yield from _ib_conv("f_branch", "conv_f", (3, 32 + IMAGE, 16), 0)
    yield from conv_entries("f_branch.conv_f.1.layers.0", "f_branch/conv_f_1", (1, 16, 1), bias=True)


def _ib_conv(branch: str, block: str, sides: Sides, number: int | None = None) -> Iterator[Entry]:
    """With a number, it is one of several that follow each other."""
    name, path = f"{branch}.{block}", f"{branch}/{block}"
    if number is not None:
        name, path = f"{name}.{number}", f"{path}_{number}"
    yield from conv_entries(f"{name}.layers.0", f"{path}/conv", sides, bias=True)
    yield from norm_entries(f"{name}.layers.1.bnorm", f"{path}/norm", sides[-1] // 2)


def _matting_base(backbone: str) -> Iterator[Entry]:
    table, images, features = BACKBONES[backbone], 2 * IMAGE, 256
    if isinstance(table, MobileNetV2):
        yield from _mobilenetv2(table, "backbone.features", images, nested=True)
    else:
        yield from resnet_entries(table, images)
    f1, f2, f3, f4 = table.tap_features
    for number, size in enumerate((1, 3, 3, 3)):
        name = f"aspp.convs.{number}"
        yield from _conv_norm(f"{name}.0", f"{name}.1", f"aspp/conv{number}", (size, f4, features))
    yield from _conv_norm("aspp.convs.4.1", "aspp.convs.4.2", "aspp/pool", (1, f4, features))
    yield from _conv_norm("aspp.project.0", "aspp.project.1", "aspp/project", (1, 5 * features, features))
    for number, (skip, width) in enumerate(((f3, 128), (f2, 64), (f1, 48)), 1):
        sides = (3, features + skip, width)
        yield from _conv_norm(f"decoder.conv{number}", f"decoder.bn{number}", f"decoder/up{number}", sides)
        features = width
    yield from conv_entries("decoder.conv4", "decoder/conv4", (3, features + images, 37), bias=True)


def _refiner(size: int) -> Iterator[Entry]:
    for number, (inputs, outputs) in enumerate(((42, 24), (24, 16), (22, 12)), 1):
        yield from conv_entries(f"refiner.conv{number}", f"refiner/conv{number}", (size, inputs, outputs))
        yield from norm_entries(f"refiner.bn{number}", f"refiner/norm{number}", outputs)
    yield from conv_entries("refiner.conv4", "refiner/conv4", (size, 12, 4), bias=True)


def _conv_norm(conv: str, norm: str, path: str, sides: Sides) -> Iterator[Entry]:
    yield from conv_entries(conv, f"{path}/conv", sides)
    yield from norm_entries(norm, f"{path}/norm", sides[-1])


def mobilenetv2_names(encoder: MobileNetV2, name: str, *, nested: bool) -> Iterator[tuple[str, str]]:
    """Of each convolution of a MobileNetV2 under `name`, and of its BatchNorm, in the order in which they run.

    If it is `nested`, as torchvision's are, a convolution with its BatchNorm and ReLU is one child of a block, but for
    the last, which has no ReLU; otherwise all are children of the block.
    """

    def in_block(index: int, last: bool) -> tuple[str, str]:
        if not nested:
            return str(3 * index), str(3 * index + 1)
        return (str(index), str(index + 1)) if last else (f"{index}.0", f"{index}.1")

    yield f"{name}.0.0", f"{name}.0.1"
    inputs = encoder.stem
    for number, block in enumerate(encoder.blocks, 1):
        for index, part in enumerate(block.parts(inputs)):
            conv, norm = in_block(index, last=part == "project")
            yield f"{name}.{number}.conv.{conv}", f"{name}.{number}.conv.{norm}"
        inputs = block.features
    if encoder.last:
        last = f"{name}.{len(encoder.blocks) + 1}"
        yield f"{last}.0", f"{last}.1"


def _mobilenetv2(encoder: MobileNetV2, name: str, channels: int, *, nested: bool) -> Iterator[Entry]:
    """A MobileNetV2 under `name`, which images of `channels` enter."""
    names = mobilenetv2_names(encoder, name, nested=nested)

    def conv_norm(path: str, part: str, sides: Sides) -> Iterator[Entry]:
        conv, norm = next(names)
        yield from conv_entries(conv, f"{path}{part}_conv", sides)
        yield from norm_entries(norm, f"{path}{part}_norm", sides[-1])

    yield from conv_norm("encoder/", "stem", (3, channels, encoder.stem))
    inputs = encoder.stem
    for number, block in enumerate(encoder.blocks, 1):
        wide, features = block.expanded, block.features
        sides = {"expand": (1, inputs, wide), "depthwise": (block.kernel, 1, wide), "project": (1, wide, features)}
        for part in block.parts(inputs):
            yield from conv_norm(f"encoder/block{number}/", part, sides[part])
        inputs = features
    if encoder.last:
        yield from conv_norm("encoder/", "last", (1, inputs, encoder.last))
