"""Weight files: PyTorch checkpoints (`.pth`), `.safetensors`, and folders saved by orbax, a training run's among them.

All three hold the same network, under PyTorch's names or under Flax's; released `.onnx` files are read as well. Which
variant and refiner it is follows from those names, so nothing has to be told; what does not fit is named, entry by
entry. A file may also hold an encoder alone, as torchvision's ImageNet networks do: a start for training.
"""

import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.paths import Location, is_url
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS, Refiner, Variant
from rvm_jax.weights import hub_folders, in_buckets, onnx_files, orbax_folders, released, torch_files
from rvm_jax.weights import provenance as provenances
from rvm_jax.weights.names import (
    Entry,
    Variables,
    baseline_family,
    entries,
    is_encoder,
    to_state_dict,
    to_variables,
)
from rvm_jax.weights.provenance import Provenance

TORCH_SUFFIXES = (".pth", ".pt")

SECONDS_OF_LATE_WRITES = 1.0
"""How long TensorStore's other threads may still write, and make folders anew, when one of them has failed."""
COUNTS = (".num_batches_tracked", "/count")  # the only entries that are integers, as PyTorch and Flax name them
ORBAX_MARKER = "_CHECKPOINT_METADATA"


@dataclass(frozen=True, repr=False)
class Weights:
    """The variables of a network as NumPy arrays. `refiner` is None if they are those of an encoder alone.

    `provenance` is what their file tells of their training, None if it tells nothing.
    """

    variant: Variant
    refiner: Refiner | None
    variables: Variables
    provenance: Provenance | None = None

    @property
    def table(self) -> list[Entry]:
        if self.refiner is None:
            return [entry for entry in entries(self.variant) if is_encoder(entry)]
        return entries(self.variant, self.refiner)

    @property
    def for_matting_alone(self) -> bool:
        """Whether the head for segmentation is zero, as what was made of a released `.onnx` file has it."""
        return self.refiner is not None and not np.any(self.variables["params"]["project_seg"]["kernel"])

    def __repr__(self) -> str:
        return f"Weights({self.describe()})"

    def network(self, dtype: DTypeLike | None = None) -> MattingNetwork:
        """The network that these are the variables of, to compute in `dtype`; an encoder alone is none."""
        assert self.refiner is not None
        known = VARIANTS.get(self.variant.name) == self.variant
        return MattingNetwork(self.variant.name if known else self.variant, self.refiner, dtype)

    def describe(self) -> str:
        """What this is, in a few words for a person."""
        return describe(self.variant, self.refiner, self.variables)


def describe(variant: Variant, refiner: Refiner | None, variables: Variables) -> str:
    """A network in a few words for a person."""
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
    part = refiner.replace("_", " ") if refiner else "encoder alone"
    return f"{variant.name}, {part}, {count:,} parameters"


class Contents(NamedTuple):
    """What a file or folder holds, before it is known of which network it is.

    Attributes:
      path: where it lies.
      arrays: by PyTorch's names, or by those of Flax's variables, `params/…/kernel`.
      folder: whether the names are Flax's.
      onnx: of an `.onnx` file all that was read.
      provenance: what it tells of their training.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    folder: bool = False
    onnx: onnx_files.FoldedNetwork | None = None
    provenance: Provenance | None = None


def read_weights(path: Location, variant: Variant | None = None) -> Weights:
    """Read a weight file or folder; raise `InputError` if it is not one, or not one of this network.

    The folder of a training run gives the network that it ended with; while it has none, its best checkpoint, or its
    newest if none was validated. A checkpoint's own folder gives that one. Which of `VARIANTS` it is follows from the
    names of its entries; a `variant` that is not among them is given. What is in a bucket is fetched before. The name
    of a release stands for its file in the cache, if nothing here is called so; `hf://owner/name` is on the Hugging
    Face Hub.
    """
    with contents_of(path) as contents:
        return weights_of(contents, variant)


@contextlib.contextmanager
def contents_of(path: Location) -> Iterator[Contents]:
    """What `read_weights` reads, of whatever network; as long as the block runs, the copy of what is in a bucket."""
    path = hub_folders.weights_in(path)
    if is_url(path):
        with in_buckets.fetched(os.fspath(path)) as copy, contents_of(copy) as contents:
            yield contents
        return
    path = released.existing(Path(path))
    yield _read(path)._replace(provenance=provenances.read(path))


def _read(path: Path) -> Contents:
    if path.is_dir():
        return _read_folder(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix.lower() == ".onnx":
        network = onnx_files.read_folded(path)
        return Contents(path, network.named, onnx=network)
    return Contents(path, read_state_dict(path))


def weights_of(contents: Contents, variant: Variant | None = None) -> Weights:
    """`read_weights`, of what was read."""
    path, known = contents.path, list(VARIANTS.values()) if variant is None else [variant]
    if contents.folder:
        found = _from_flax_names(contents.arrays, path, known)
    elif contents.onnx:
        found = _from_onnx(contents.onnx, path, known)
    else:
        found = _from_state_dict(contents.arrays, path, known)
    return replace(found, provenance=contents.provenance)


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The entries of a PyTorch or `.safetensors` file, of whatever network, by the names that they have there."""
    return _read_safetensors(path) if path.suffix.lower() == ".safetensors" else torch_files.read(path)


def read_network(path: Location, variant: Variant | None = None) -> Weights:
    """`read_weights`, but refuse an encoder alone: what can matte is a whole network."""
    return whole_network(read_weights(path, variant), path)


def whole_network(loaded: Weights, path: Location) -> Weights:
    """The same, if it is not an encoder alone."""
    if loaded.refiner is None:
        raise InputError(
            f"{path} holds an encoder alone, which cannot matte: it is a start for training, "
            "so give the weights of a whole network"
        )
    return loaded


def checked_weights(variant: Variant, refiner: Refiner, variables: Variables, what: str) -> Weights:
    """Variables of one's own as `Weights`, if they are those of the network; half precision is widened."""
    table = entries(variant, refiner)
    trees = {name: tree for name, tree in variables.items() if name in ("params", "batch_stats")}
    expected = {"/".join(entry.path): entry.shape for entry in table}
    check_entries(flax.traverse_util.flatten_dict(trees, sep="/"), expected, variant.name, what)
    return Weights(variant, refiner, jax.tree.map(widen, trees))


def write_weights(
    weights: Weights, path: Location, *, overwrite: bool = False, provenance: Provenance | None = None
) -> None:
    """Write `weights` as the ending of `path` says: `.pth` or `.pt`, `.safetensors`, or a folder if it has none.

    The file tells the provenance that is given, or that of the weights.
    """
    told = provenance or weights.provenance
    write_variables(weights.variables, weights.table, path, TORCH_SUFFIXES, overwrite=overwrite, provenance=told)


def write_variables(
    variables: Variables,
    table: list[Entry],
    path: Location,
    torch_suffixes: Sequence[str],
    *,
    overwrite: bool = False,
    prefix: str = "",
    provenance: Provenance | None = None,
) -> None:
    """Write variables as the ending of `path` says, in a file under the names of `table`, with a prefix."""
    ending = Path(path).suffix
    suffix = ending.lower()
    if suffix not in (*torch_suffixes, ".safetensors", ""):
        raise InputError(
            f"{path} ends in {ending!r}: expected {torch_suffixes[0]} or .safetensors for a file, or no ending for a "
            "JAX folder" + ("; `rvm export` writes ONNX" if suffix == ".onnx" else "")
        )
    if is_url(path):
        with in_buckets.replacing(os.fspath(path), overwrite=overwrite) as copy:
            write_variables(variables, table, copy, torch_suffixes, prefix=prefix, provenance=provenance)
        return
    path = Path(path)
    folder = suffix == ""
    if path.exists() and path.is_dir() != folder:
        kind, wanted = ("file", "folder") if folder else ("folder", "file")
        raise InputError(f"{path} is a {kind}, and a {wanted} would be written: choose another name")
    if path.is_dir() and any(path.iterdir()) and not (path / ORBAX_MARKER).exists():
        raise InputError(f"{path} is a folder that holds other things than weights: choose another name")
    torch = torch_files.import_torch(path) if suffix in torch_suffixes else None
    with replacing(path, overwrite=overwrite) as partial:
        if folder:
            _write_folder(variables, partial)
            provenances.write_to_folder(provenance, partial)
            return
        arrays = to_state_dict(variables, table)
        _write_state_dict({f"{prefix}{name}": array for name, array in arrays.items()}, partial, torch, provenance)


def _write_state_dict(arrays: Mapping[str, np.ndarray], path: Path, torch: Any, provenance: Provenance | None) -> None:
    if torch is None:
        import safetensors.numpy

        content = safetensors.numpy.save(dict(arrays), metadata={"format": "pt"})
        path.write_bytes(provenances.put_into_safetensors(provenance, content))
        return
    tensors = OrderedDict((name, torch.from_numpy(array.copy())) for name, array in arrays.items())
    with path.open("wb") as file:
        torch.save(tensors, file)
    provenances.add_to_zip(provenance, path)


def _write_folder(variables: Variables, path: Path) -> None:
    import jax
    import orbax.checkpoint as ocp

    me = jax.process_index()  # the other hosts of a run, if it has any, write nothing and are not waited for
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix="weights"
    )
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
            checkpointer.save(path, variables)
    except ValueError as error:  # what TensorStore makes of a full disk
        time.sleep(SECONDS_OF_LATE_WRITES)
        raise OSError(orbax_folders.error_reason(error)) from error


def _read_folder(path: Path) -> Contents:
    path = orbax_folders.variables_in(path)
    variables = orbax_folders.read_arrays(path)
    if not isinstance(variables, dict) or not all(isinstance(key, str) for key in variables):
        raise InputError(f"{path} holds no variables of a network: expected a folder made by `rvm convert`")
    return Contents(path, flax.traverse_util.flatten_dict(variables, sep="/"), folder=True)


def _from_flax_names(flat: Mapping[str, np.ndarray], path: Path, known: Sequence[Variant]) -> Weights:
    variant, refiner, table = _identify(flat, lambda entry: "/".join(entry.path), path, known)
    expected = {"/".join(entry.path): entry.shape for entry in table}
    check_entries(flat, expected, variant.name, path)
    variables = flax.traverse_util.unflatten_dict({name: widen(array) for name, array in flat.items()}, sep="/")
    return Weights(variant, refiner, variables)


def _from_state_dict(arrays: Mapping[str, np.ndarray], path: Path, known: Sequence[Variant]) -> Weights:
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}  # PyTorch's DataParallel
    if arrays.keys() & {"features.0.0.weight", "conv1.weight"}:
        # An ImageNet network of torchvision's: the same encoder, and a classifier that is of no use here.
        arrays = {f"backbone.{n}": a for n, a in arrays.items() if not n.startswith(("classifier.", "fc."))}
    variant, refiner, table = _identify(arrays, lambda entry: entry.name, path, known)
    expected = {entry.name: entry.torch_shape for entry in table}
    if not any(name.endswith(COUNTS) for name in arrays):
        # PyTorch wrote no counts before version 0.4.1, and reads such files as if they were zero.
        arrays = {**arrays, **{n: np.zeros((), np.int64) for n in expected if n.endswith(COUNTS)}}
    check_entries(arrays, expected, variant.name, path)
    return Weights(variant, refiner, to_variables({n: widen(a) for n, a in arrays.items()}, table))


def _identify(
    given: Mapping[str, Any], name_of: Callable[[Entry], str], path: Path, known: Sequence[Variant]
) -> tuple[Variant, Refiner | None, list[Entry]]:
    """The known variant whose entry names are most like the given ones, its refiner, and its table."""

    def likeness(variant: Variant) -> float:
        names = {name_of(entry) for entry in entries(variant)}
        return len(names & given.keys()) / len(names | given.keys())

    variant = max(known, key=likeness)
    table = entries(variant)
    found = [entry for entry in table if name_of(entry) in given]
    if (other := baseline_family(given)) is not None:
        raise InputError(f"{path} holds {other}, and RVM is wanted: give weights of `rvm_jax.MattingNetwork`")
    if len(found) < len(given) / 2 or not found:
        first = f" (the first is {next(iter(given))!r})" if given else ""
        raise InputError(
            f"{path} is not a checkpoint of this network: of its {len(given)} entries{first} {len(found)} belong to "
            "it, so give a released .pth or a folder made by `rvm convert`"
        )
    if all(is_encoder(entry) for entry in found):
        return variant, None, [entry for entry in table if is_encoder(entry)]
    has_refiner = any(entry.path[1] == "refiner" for entry in found)
    refiner: Refiner = "deep_guided_filter" if has_refiner else "fast_guided_filter"
    return variant, refiner, entries(variant, refiner)


def check_entries(
    given: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], network: str, what: Path | str
) -> None:
    """Raise an error that names every entry that is missing (-), unknown (+), or of another shape or kind (both)."""

    def kind(name: str) -> str:
        return "integer" if name.endswith(COUNTS) else "float"

    wanted = {name: f"{list(shape)} {kind(name)}" for name, shape in expected.items()}
    found = {name: f"{list(np.shape(array))} {_kind(array)}" for name, array in given.items()}
    lines = [f"- {name} {what}" for name, what in wanted.items() if found.get(name) != what]
    lines += [f"+ {name} {what}" for name, what in found.items() if wanted.get(name) != what]
    if lines:
        lines.sort(key=lambda line: line[2:].split()[0])
        raise InputError(
            f"{what} does not fit the network {network!r}: "
            "these entries are expected (-) or were found instead (+)\n" + "\n".join(lines)
        )


def _kind(array: np.ndarray) -> str:
    dtype = np.asarray(array).dtype
    kinds = {"float": jnp.floating, "integer": jnp.integer}
    return next((name for name, kind in kinds.items() if jnp.issubdtype(dtype, kind)), str(dtype))


def _from_onnx(network: onnx_files.FoldedNetwork, path: Path, known: Sequence[Variant]) -> Weights:
    for variant in known:
        arrays = onnx_files.state_dict(network, variant, entries(variant))
        with contextlib.suppress(InputError):
            if arrays is not None:
                return _from_state_dict(arrays, path, [variant])
    raise InputError(
        f"{path} is not a released network: {len(network.folded)} convolutions with a folded BatchNorm; give a "
        ".pth or .safetensors file, or what it was exported from"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # a damaged file, or a dtype that NumPy does not have
        raise InputError(
            f"{path} is not a safetensors file, or it is damaged: {orbax_folders.error_reason(error)}"
        ) from error


def widen(array: np.ndarray) -> np.ndarray:
    """Half-precision weights as float32; others as they are."""
    array = np.asarray(array)
    half = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
    return array.astype(np.float32) if half else array
