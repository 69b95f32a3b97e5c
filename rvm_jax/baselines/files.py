"""The baselines' released weight files: read, told apart, and written again."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.names import Baseline, entries
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.errors import InputError
from rvm_jax.weights.files import check_entries, read_state_dict, write_state_dict
from rvm_jax.weights.names import Variables, to_state_dict, to_variables

PREFIXES = ("module.", "model.")  # of PyTorch's DataParallel, and of what wraps a network
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
MODNET_COPY = "lr_branch.backbone."  # under which its backbone is in its files once more


def load(path: str | Path) -> tuple[Baseline, Variables]:
    """The network that a released `.pth`, `.ckpt` or `.safetensors` file holds, and its variables as NumPy arrays.

    Which network it is follows from the names and shapes of its entries. A `MattingRefine` is given with the options
    that it has by default: `network.clone(mode="full")` makes another.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: give a released .pth or .ckpt, or a .safetensors file")
    arrays = read_state_dict(path)
    for prefix in PREFIXES:
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    network = _network_of(arrays, path)
    table = entries(network)
    check_entries(arrays, {entry.name: entry.torch_shape for entry in table}, type(network).__name__, path)
    if isinstance(network, MODNet):
        _check_copies(arrays, path)
    return network, to_variables(arrays, table)


def save(network: Baseline, variables: Variables, path: str | Path, *, overwrite: bool = False) -> None:
    """Write variables under the names of the released file, as `.pth`, `.pt`, `.ckpt` or `.safetensors`.

    A `.ckpt` gets the prefix `module.`, as MODNet's have it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in {path.suffix!r}: expected one of {', '.join(SUFFIXES)}")
    arrays = to_state_dict(jax.device_get(variables), entries(network))
    if suffix == ".ckpt":
        arrays = {f"module.{name}": array for name, array in arrays.items()}
    write_state_dict(arrays, path, overwrite=overwrite)


def _network_of(arrays: Mapping[str, np.ndarray], path: Path) -> Baseline:
    """The network whose entries these are, told by those that no other has."""
    if "stage1.rebnconv1.conv_s1.weight" in arrays:
        return U2Net("u2net" if len(arrays["stage1.rebnconv1.conv_s1.weight"]) == 32 else "u2netp")
    if "lr_branch.se_block.fc.0.weight" in arrays:
        return MODNet()
    if "aspp.convs.0.0.weight" in arrays:
        backbone = "resnet50"
        if "backbone.features.0.0.weight" in arrays:
            backbone = "mobilenetv2"
        elif "backbone.layer3.22.conv1.weight" in arrays:
            backbone = "resnet101"
        if "refiner.conv1.weight" not in arrays:
            return MattingBase(backbone)
        return MattingRefine(backbone, kernel_size=arrays["refiner.conv1.weight"].shape[-1])
    first = f" (the first of {len(arrays)} entries is {next(iter(arrays))!r})" if arrays else ""
    raise InputError(f"{path} holds neither MODNet, BackgroundMattingV2 nor U²-Net{first}: give one of their files")


def _check_copies(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Both of MODNet's copies of its backbone must be the same."""
    for name, array in arrays.items():
        if name.startswith(MODNET_COPY) and array.tobytes() != arrays[name.removeprefix("lr_branch.")].tobytes():
            raise InputError(
                f"{path} holds MODNet's backbone twice, with different values of {name.removeprefix(MODNET_COPY)!r}: "
                "give a file in which both copies agree"
            )
