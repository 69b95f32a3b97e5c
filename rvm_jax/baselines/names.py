"""The entries of the baselines' released state_dicts, in their order, and the Flax variables that hold them."""

from collections.abc import Iterator

from rvm_jax.baselines.background_matting import BACKBONES, MattingBase, MattingRefine
from rvm_jax.baselines.mobilenetv2 import STRIDED, MobileNetV2
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.u2net import VARIANTS, U2Net
from rvm_jax.weights.names import Entry, conv_entries, norm_entries, resnet_entries

Baseline = MODNet | U2Net | MattingBase | MattingRefine


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
            return [*_matting_base(network.backbone), *_refiner()]


def _u2net(variant: str) -> Iterator[Entry]:
    table = VARIANTS[variant]
    for block in (*table.encoder, *table.decoder):
        for unit in block.units():
            name, path = f"{block.name}.rebnconv{unit}", f"{block.name}/unit{unit}"
            yield from conv_entries(f"{name}.conv_s1", f"{path}/conv", bias=True)
            yield from norm_entries(f"{name}.bn_s1", f"{path}/norm")
    for head in (*(f"side{number}" for number in range(1, 7)), "outconv"):
        yield from conv_entries(head, head, bias=True)


def _modnet() -> Iterator[Entry]:
    for owner in ("", "lr_branch."):
        yield from _mobilenetv2(STRIDED, f"{owner}backbone.model.features", nested=False)
    for part, index in (("squeeze", 0), ("excite", 2)):
        yield from conv_entries(f"lr_branch.se_block.fc.{index}", f"lr_branch/se_block/{part}")
    yield from _ib_convs("lr_branch", "conv_lr16x", "conv_lr8x")
    yield from conv_entries("lr_branch.conv_lr.layers.0", "lr_branch/conv_lr", bias=True)
    yield from _ib_convs("hr_branch", "tohr_enc2x", "conv_enc2x", "tohr_enc4x", "conv_enc4x")
    yield from _ib_convs("hr_branch", *(f"conv_hr4x_{i}" for i in range(3)), *(f"conv_hr2x_{i}" for i in range(4)))
    yield from _ib_convs("hr_branch", "conv_hr_0")
    yield from conv_entries("hr_branch.conv_hr.1.layers.0", "hr_branch/conv_hr_1", bias=True)
    yield from _ib_convs("f_branch", "conv_lr4x", "conv_f2x", "conv_f_0")
    yield from conv_entries("f_branch.conv_f.1.layers.0", "f_branch/conv_f_1", bias=True)


def _matting_base(backbone: str) -> Iterator[Entry]:
    table = BACKBONES[backbone]
    if isinstance(table, MobileNetV2):
        yield from _mobilenetv2(table, "backbone.features", nested=True)
    else:
        yield from resnet_entries(table)
    for number in range(4):
        yield from _conv_norm(f"aspp.convs.{number}.0", f"aspp.convs.{number}.1", f"aspp/conv{number}")
    yield from _conv_norm("aspp.convs.4.1", "aspp.convs.4.2", "aspp/pool")
    yield from _conv_norm("aspp.project.0", "aspp.project.1", "aspp/project")
    for number in (1, 2, 3):
        yield from _conv_norm(f"decoder.conv{number}", f"decoder.bn{number}", f"decoder/up{number}")
    yield from conv_entries("decoder.conv4", "decoder/conv4", bias=True)


def _refiner() -> Iterator[Entry]:
    for number in (1, 2, 3):
        yield from conv_entries(f"refiner.conv{number}", f"refiner/conv{number}")
        yield from norm_entries(f"refiner.bn{number}", f"refiner/norm{number}")
    yield from conv_entries("refiner.conv4", "refiner/conv4", bias=True)


def _conv_norm(conv: str, norm: str, path: str) -> Iterator[Entry]:
    yield from conv_entries(conv, f"{path}/conv")
    yield from norm_entries(norm, f"{path}/norm")


def _ib_convs(branch: str, *blocks: str) -> Iterator[Entry]:
    for block in blocks:
        *rest, last = block.split("_")
        name = ".".join([branch, "_".join(rest), last] if last.isdigit() else [branch, block])  # conv_f_0 → conv_f.0
        yield from conv_entries(f"{name}.layers.0", f"{branch}/{block}/conv", bias=True)
        yield from norm_entries(f"{name}.layers.1.bnorm", f"{branch}/{block}/norm")


def _mobilenetv2(encoder: MobileNetV2, name: str, nested: bool) -> Iterator[Entry]:
    """A MobileNetV2 under `name`.

    If it is `nested`, as torchvision's are, a convolution with its BatchNorm and ReLU is one child of a block, but for
    the last, which has no ReLU; otherwise all are children of the block.
    """

    def in_block(index: int, last: bool) -> tuple[str, str]:
        if not nested:
            return str(3 * index), str(3 * index + 1)
        return (str(index), str(index + 1)) if last else (f"{index}.0", f"{index}.1")

    yield from conv_entries(f"{name}.0.0", "encoder/stem_conv")
    yield from norm_entries(f"{name}.0.1", "encoder/stem_norm")
    inputs = encoder.stem
    for number, block in enumerate(encoder.blocks, 1):
        for index, part in enumerate(block.parts(inputs)):
            conv, norm = in_block(index, last=part == "project")
            yield from conv_entries(f"{name}.{number}.conv.{conv}", f"encoder/block{number}/{part}_conv")
            yield from norm_entries(f"{name}.{number}.conv.{norm}", f"encoder/block{number}/{part}_norm")
        inputs = block.features
    if encoder.last:
        yield from conv_entries(f"{name}.{len(encoder.blocks) + 1}.0", "encoder/last_conv")
        yield from norm_entries(f"{name}.{len(encoder.blocks) + 1}.1", "encoder/last_norm")
