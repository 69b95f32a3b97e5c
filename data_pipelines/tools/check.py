"""The check of archives: what is there of every dataset, before anything is built."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_pipelines.archives import parts
from data_pipelines.builders import catalog
from data_pipelines.builders.background_images import archive as background_images
from data_pipelines.builders.footage import archive as footage
from data_pipelines.records.clips import how_to_prepare, open_prepared, prepared_folder
from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location, is_url

MOST_LINES = 12


@dataclass(frozen=True)
class Checked:
    """A dataset's state: already prepared, prepared and damaged since, ready to be prepared, or why not.

    Attributes:
        absent: Nothing of it is there: what is not ready for any other reason is faulty.
    """

    name: str
    state: Literal["prepared", "damaged", "ready", "not ready"]
    counts: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[str] = ()
    warnings: Sequence[str] = ()
    absent: bool = False


def check(names: Sequence[str], manual: Path, data_dir: Location) -> Iterator[Checked]:
    """Look at what is prepared of each dataset, and otherwise at what the manual folder holds of it."""
    catalog.refuse_file(manual)
    return (_look(name, manual, data_dir) for name in names)


def chosen(names: Sequence[str], data_dir: Location) -> list[str]:
    """The datasets that are meant: those of `catalog.named`, and prepared footage of one's own by its name."""
    own = [
        name
        for name in names
        if name.startswith(("footage/", "background_images/")) and prepared_folder(name, data_dir) is not None
    ]
    others = [name for name in names if name not in own]
    return own + (catalog.named(others) if others or not own else [])


def with_shares(names: Sequence[str], manual: Path, data_dir: Location) -> Iterator[str]:
    """What `all` means: of datasets that come in parts and are not prepared, the shares that are there."""
    for name in names:
        yield from [name] if prepared_folder(name, data_dir) is not None else catalog.shares(name, manual)


def with_same_parts(name: str, data_dir: Path) -> list[str]:
    """What is prepared of the same parts as a share, or the whole, of a dataset, which is not prepared itself."""
    dataset, _, config = name.partition("/")
    if dataset not in parts.COUNTS or prepared_folder(name, data_dir) is not None:
        return []
    own = {*parts.chosen(dataset, config)}
    folders = [path.name for path in sorted((data_dir / dataset).glob("*")) if re.fullmatch(r"[\d-]+", path.name)]
    there = [share for share in ("", *folders) if prepared_folder(f"{dataset}/{share}", data_dir) is not None]
    return [f"{dataset}/{share}".rstrip("/") for share in there if not own.isdisjoint(parts.chosen(dataset, share))]


def _look(name: str, manual: Path, data_dir: Location) -> Checked:
    folder = prepared_folder(name, data_dir)
    if folder is not None:
        # What is prepared needs its sources no more, and some of them take long to read.
        try:
            open_prepared(folder)
        except InputError as error:
            return Checked(name, "damaged", errors=[str(error)])
        return Checked(name, "prepared")
    if is_url(data_dir):
        errors = [f"it is not in {data_dir}: {how_to_prepare(name, data_dir)}"]
        return Checked(name, "not ready", errors=errors, absent=True)
    if name in catalog.SYNTHETIC:
        return Checked(name, "ready")
    data_dir = Path(data_dir)
    found = catalog.find(name, manual, data_dir)
    counts = {split: len(clips) for split, clips in found.splits.items()}
    if not found.errors:
        return Checked(name, "ready", counts, warnings=found.warnings)
    absent = not catalog.lies_in(name, manual, data_dir)
    return Checked(name, "not ready", counts, found.errors, found.warnings, absent)


def check_footage(folder: Path) -> Checked:
    """Look at a folder in the plain layout, and at its backgrounds."""
    found = footage.find(folder)
    counts = {split: len(clips) for split, clips in found.splits.items()}
    errors, warnings = list(found.errors), list(found.warnings)
    if (folder / background_images.FOLDER).is_dir():
        beside = background_images.find(folder)
        counts["backgrounds"] = sum(map(len, beside.splits.values()))
        errors += beside.errors
        warnings += beside.warnings
    return Checked("footage", "not ready" if errors else "ready", counts, errors, warnings)


def describe(checked: Checked) -> str:
    """A headline, and a line for everything that is wrong or worth knowing."""
    counts = ", ".join(f"{split} {count:,}" for split, count in checked.counts.items() if count)
    counted = f" ({counts} clips or pictures)" if counts else ""
    lines = [f"{checked.name}: {checked.state}{counted} - {catalog.purpose(checked.name)}"]
    for kind, messages in (("error", checked.errors), ("warning", checked.warnings)):
        lines += [f"  {kind}: {text}" for text in messages[:MOST_LINES]]
        if len(messages) > MOST_LINES:
            lines.append(f"  {kind}: and {len(messages) - MOST_LINES} more of this kind")
    return "\n".join(lines)
