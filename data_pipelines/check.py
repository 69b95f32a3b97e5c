"""What is there of every dataset, before anything is built."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipelines import catalog
from data_pipelines.builders.footage import layout as footage
from data_pipelines.clips import prepared_folder

MOST_LINES = 12


@dataclass(frozen=True)
class Checked:
    """A dataset's state: already prepared, ready to be, or why not."""

    name: str
    state: Literal["prepared", "ready", "not ready"]
    counts: Mapping[str, int]
    errors: Sequence[str]
    warnings: Sequence[str]


def check(names: Sequence[str], manual: Path, data_dir: Path) -> Iterator[Checked]:
    """Look at what the manual folder holds of each dataset."""
    for name in names:
        if name in catalog.SYNTHETIC or prepared_folder(name, data_dir) is not None:
            # What is prepared needs its sources no more, and some of them take long to read.
            yield Checked(name, "prepared" if prepared_folder(name, data_dir) else "ready", {}, [], [])
            continue
        found = catalog.find(name, manual, data_dir)
        counts = {split: len(clips) for split, clips in found.splits.items()}
        yield Checked(name, "not ready" if found.errors else "ready", counts, found.errors, found.warnings)


def check_footage(folder: Path) -> Checked:
    """Look at a folder in the plain layout."""
    found = footage.find(folder)
    counts = {split: len(clips) for split, clips in found.splits.items()}
    return Checked("footage", "not ready" if found.errors else "ready", counts, found.errors, found.warnings)


def describe(checked: Checked) -> str:
    """A headline, and a line for everything that is wrong or worth knowing."""
    counts = ", ".join(f"{split} {count:,}" for split, count in checked.counts.items() if count)
    purpose = {**catalog.DATASETS, **catalog.SYNTHETIC, "footage": "matting clips of your own"}[checked.name]
    lines = [
        f"{checked.name}: {checked.state}" + (f" ({counts} clips or pictures)" if counts else "") + f" - {purpose}"
    ]
    for kind, told in (("error", checked.errors), ("warning", checked.warnings)):
        lines += [f"  {kind}: {text}" for text in told[:MOST_LINES]]
        if len(told) > MOST_LINES:
            lines.append(f"  {kind}: and {len(told) - MOST_LINES} more of this kind")
    return "\n".join(lines)
