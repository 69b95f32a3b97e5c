"""Provenance of weights: the data that they were trained on, with its licences, kept in every kind of weight file.

It is one JSON text wherever it lies: in the metadata of `.safetensors` and `.onnx` files, as `provenance.json` in
folders, and in a `.pth` or TorchScript file as the record `extra/provenance.json` of its zip archive, which PyTorch
passes over. A training run has one `provenance.json`, which speaks for all of its checkpoints. StableHLO has no place
for it: there it stands in the report beside the file.
"""

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.weights import onnx_files, orbax_folders

FILE = "provenance.json"
"""In folders and in zip archives."""
KEY = "rvm_jax.provenance"
"""In the metadata of files that have some."""
REPORT = ".parity.json"
"""How the reports of exports end, beside them."""


@dataclass(frozen=True)
class TrainingSet:
    """A dataset that was trained on, and what its owner allows. `commercial` is "yes", "no" or "unknown"."""

    dataset: str
    version: str
    licence: str
    link: str
    commercial: str
    attribution: str


@dataclass(frozen=True)
class Provenance:
    """Where weights come from.

    Attributes:
        data: What they were trained on.
        recipe: The name of the recipe.
        initial: What training began from: a file, a release, or "random weights".
        unfree_allowed: Whether data that is not known to be free was asked for, where a recipe would refuse it.
    """

    data: tuple[TrainingSet, ...]
    recipe: str
    initial: str
    unfree_allowed: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @property
    def unfree(self) -> list[str]:
        """The datasets that are not known to allow commercial use."""
        return [one.dataset for one in self.data if one.commercial != "yes"]

    def describe(self) -> str:
        """All of it for a person, a line for each dataset."""
        head = f"trained by the recipe {self.recipe}, from {self.initial}, on"
        lines = [
            f"  {one.dataset} {one.version}: {one.licence}, commercial use: {one.commercial}"
            + (f", {one.link}" if one.link else "")
            + (f"\n    {one.attribution}" if one.attribution else "")
            for one in self.data
        ]
        end = ["  data that is not known to be free was allowed on request"] if self.unfree_allowed else []
        return "\n".join([head, *(lines or ["  no data"]), *end])


def from_json(text: str | bytes, where: Path) -> Provenance:
    """What `to_json` gave; names that it does not know are passed over."""
    try:
        found = json.loads(text)
        sets = tuple(TrainingSet(**_known(TrainingSet, one)) for one in found["data"])
        return Provenance(**{**_known(Provenance, found), "data": sets})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{where} does not say what it was trained on in a form that is known here: {error}") from None


def read(path: Path) -> Provenance | None:
    """The provenance of a weight file or folder; None if it tells none."""
    text: str | bytes | None
    if path.is_dir():
        text = next((file.read_bytes() for file in _files(path) if file.is_file()), None)
    elif path.suffix.lower() == ".safetensors":
        text = _safetensors_metadata(path).get(KEY)
    elif path.suffix.lower() == ".onnx":
        text = onnx_files.metadata(path).get(KEY)
    elif path.suffix.lower() == ".stablehlo":
        text = _from_report(path.with_name(f"{path.name}{REPORT}"))
    else:
        text = _zip_record(path)
    return None if text is None else from_json(text, path)


def metadata(provenance: Provenance | None) -> dict[str, str]:
    """The metadata of a file that has some."""
    return {} if provenance is None else {KEY: provenance.to_json()}


def put_into_safetensors(provenance: Provenance | None, content: bytes) -> bytes:
    """The content of a file with it in its metadata, whose keys have a fixed order: equal weights, equal files."""
    if provenance is None:
        return content
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header = {"__metadata__": {**header.pop("__metadata__", {}), **metadata(provenance)}, **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def write_to_folder(provenance: Provenance | None, folder: Path) -> None:
    if provenance is not None:
        (folder / FILE).write_text(provenance.to_json() + "\n")


def add_to_zip(provenance: Provenance | None, path: Path) -> None:
    """Add the record to a file that `torch.save` wrote, without the time of day: equal weights, equal files."""
    if provenance is None:
        return
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(zipfile.ZipInfo(f"{root}/extra/{FILE}"), provenance.to_json())


def _files(folder: Path) -> Iterator[Path]:
    """Where a folder's may lie: with the variables, with their checkpoint, and in the folder of their run.

    A run speaks of its checkpoints alone: whoever keeps other weights in its folder did not train them there.
    """
    variables = orbax_folders.variables_in(folder).absolute()
    yield variables / FILE
    for checkpoint in (variables, variables.parent):
        if checkpoint.parent.name == orbax_folders.CHECKPOINTS:
            yield checkpoint / FILE
            yield checkpoint.parent.parent / FILE


def _safetensors_metadata(path: Path) -> dict[str, str]:
    """What the header of a file has; nothing if it is damaged, which reading its numbers tells."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size)) if size < path.stat().st_size else {}
        return dict(header.get("__metadata__", {}))
    except (ValueError, TypeError, AttributeError, struct.error):
        return {}


def _zip_record(path: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith(f"/extra/{FILE}")), None)
            return None if name is None else archive.read(name)
    except (zipfile.BadZipFile, OSError):
        return None


def _from_report(path: Path) -> str | None:
    try:
        return json.dumps(told) if (told := json.loads(path.read_text()).get("provenance")) else None
    except (ValueError, AttributeError, OSError):
        return None


def _known(kind: type, found: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in found.items() if name in names}
