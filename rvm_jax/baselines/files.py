"""The baselines' released weight files: read, told apart, and written again."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import flax.traverse_util
import jax
import numpy as np

from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.names import NETWORKS, Baseline, entries, name_of
from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location
from rvm_jax.model.variants import NORM_EPSILON
from rvm_jax.weights.files import Contents, check_entries, contents_of, widen, write_variables
from rvm_jax.weights.names import Entry, Variables, baseline_family, to_variables
from rvm_jax.weights.onnx_files import FoldedNetwork, restore
from rvm_jax.weights.provenance import Provenance

PREFIXES = ("module.", "model.")  # of PyTorch's DataParallel, and of what wraps a network
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
MODNET_COPY = "lr_branch.backbone."  # under which its backbone is in its files once more
MODNET_HEADS = ("lr_branch.conv_lr.", "hr_branch.conv_hr.")
"""What only training looks at: exported files lack it, and what is read of them has zeros instead."""


def load(path: Location) -> tuple[Baseline, Variables]:
    """The network that weights are of, and its variables as NumPy arrays; `rvm_jax.load` gives both as one.

    Which network it is follows from the names and shapes of its entries. A `MattingRefine` is given with the options
    that it has by default: `network.clone(mode="full")` makes another.
    """
    with contents_of(path) as contents:
        return network_of(contents)


def network_of(contents: Contents) -> tuple[Baseline, Variables]:
    """`load`, of what was read."""
    path, arrays = contents.path, dict(contents.arrays)
    if contents.onnx is not None:
        return _from_onnx(contents.onnx, path)
    if baseline_family(arrays) is None:
        first = f" (the first of {len(arrays)} entries is {next(iter(arrays))!r})" if arrays else ""
        raise InputError(f"{path} holds neither MODNet, BackgroundMattingV2 nor U²-Net{first}: give one of their files")
    if contents.folder:
        network, table = _identify(arrays, lambda entry: ("/".join(entry.path), entry.shape))
        check_entries(arrays, {"/".join(entry.path): entry.shape for entry in table}, name_of(network), path)
        variables = {name: widen(array) for name, array in arrays.items()}
        return network, flax.traverse_util.unflatten_dict(variables, sep="/")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    network, table = _identify(arrays, lambda entry: (entry.name, entry.torch_shape))
    if not any(name.endswith("running_mean") for name in arrays):
        raise InputError(
            f"{path} holds {name_of(network)} with BatchNorm folded in: give what it was exported from, or its .onnx"
        )
    check_entries(arrays, {entry.name: entry.torch_shape for entry in table}, name_of(network), path)
    if isinstance(network, MODNet):
        _check_copies(arrays, path)
    return network, to_variables({name: widen(array) for name, array in arrays.items()}, table)


def save(
    network: Baseline,
    variables: Variables,
    path: Location,
    *,
    overwrite: bool = False,
    provenance: Provenance | None = None,
) -> None:
    """Write variables under the names of the released file, as `.pth`, `.pt`, `.ckpt` or `.safetensors`, or a folder.

    A `.ckpt` gets the prefix `module.`, as MODNet's have it. Half precision is widened.
    """
    prefix = "module." if os.fspath(path).lower().endswith(".ckpt") else ""
    table = entries(network)
    trees = {name: jax.device_get(variables.get(name, {})) for name in ("params", "batch_stats")}
    expected = {"/".join(entry.path): entry.shape for entry in table}
    what = f"what is to be {path}"
    check_entries(flax.traverse_util.flatten_dict(trees, sep="/"), expected, name_of(network), what)
    trees = jax.tree.map(widen, trees)
    write_variables(trees, table, path, TORCH_SUFFIXES, overwrite=overwrite, prefix=prefix, provenance=provenance)


def _from_onnx(onnx: FoldedNetwork, path: Path) -> tuple[Baseline, Variables]:
    """The network of an exported file: of those whose folded convolutions it has, the largest that it fits.

    A file with names of its own, of a network that refines, fits its coarse network as well.
    """
    for network in sorted(NETWORKS.values(), key=lambda network: -len(entries(network))):
        table = entries(network)
        absent = [entry for entry in table if entry.name.startswith((MODNET_COPY, *MODNET_HEADS))]
        found = restore(onnx, [entry for entry in table if entry not in absent], lambda entry: NORM_EPSILON)
        if found is None:
            continue
        for entry in absent:
            kind = np.int64 if entry.path[-1] == "count" else np.float32
            copied = found.get(entry.name.removeprefix("lr_branch."))
            found[entry.name] = np.zeros(entry.torch_shape, kind) if copied is None else copied
        with contextlib.suppress(InputError):
            check_entries(found, {entry.name: entry.torch_shape for entry in table}, name_of(network), path)
            return network, to_variables({name: widen(array) for name, array in found.items()}, table)
    raise InputError(
        f"{path} is not an exported network that is known: {len(onnx.folded)} convolutions with a folded BatchNorm; "
        "give a .pth, .ckpt or .safetensors file"
    )


def _identify(
    arrays: Mapping[str, np.ndarray], described: Callable[[Entry], tuple[str, tuple[int, ...]]]
) -> tuple[Baseline, list[Entry]]:
    """The network whose names and shapes are most like those of the arrays, and its table."""
    given = {(name, array.shape) for name, array in arrays.items()}

    def likeness(table: list[Entry]) -> float:
        expected = {described(entry) for entry in table}
        return len(given & expected) / len(given | expected)

    return max(((network, entries(network)) for network in NETWORKS.values()), key=lambda pair: likeness(pair[1]))


def _check_copies(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Both of MODNet's copies of its backbone must be the same."""
    for name, array in arrays.items():
        if name.startswith(MODNET_COPY) and array.tobytes() != arrays[name.removeprefix("lr_branch.")].tobytes():
            raise InputError(
                f"{path} holds MODNet's backbone twice, with different values of {name.removeprefix(MODNET_COPY)!r}: "
                "give a file in which both copies agree"
            )
