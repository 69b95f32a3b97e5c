"""Datasets that come as many archives: their clips, and which archives a share such as 0-5 means."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found, split_clips
from data_pipelines.archives.error_messages import first_few
from rvm_jax.errors import InputError
from rvm_jax.host.progress import with_progress

COUNTS: Mapping[str, int] = {"synthhuman": 60, "pass_backgrounds": 10}
"""In how many archives these datasets come, some of which are a dataset too."""


def chosen(dataset: str, config: str) -> range:
    """The numbers of the archives of a dataset of `COUNTS`: of all if `config` is empty, or those of "3" or "0-5"."""
    count = COUNTS[dataset]
    if not config:
        return range(count)
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", config)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (count, count)
    if not first <= last < count:
        raise InputError(
            f"there is no dataset {dataset}/{config}: a share of {dataset} is named by its parts, of 0 to {count - 1}, "
            f"such as {dataset}/0-{min(5, count - 1)}"
        )
    return range(first, last + 1)


def shares(numbers: Sequence[int]) -> list[str]:
    """The fewest shares that some archives make, which are given in order: 0, 1, 2 and 5 are "0-2" and "5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]


def find(
    dataset: str,
    archives: list[Path],
    clips_in: Callable[[Path, Found], list[ArchiveClip]],
    *,
    share: str,
    validation_every: int,
) -> Found:
    """The clips of all archives; of each `validation_every`, the first is for validation.

    `clips_in` gives those of one, and adds what is wrong; an archive that cannot be opened is told as well. `share` is
    an example of one that needs fewer archives.
    """
    found = Found()
    missing = [path.name for path in archives if not path.is_file()]
    if missing:
        found.errors.append(
            f"{archives[0].parent} lacks {len(missing)} of {len(archives)} {archives[0].suffix[1:]} files: "
            f"{first_few(missing)}; `rvm data download` gets them, and a share such as {dataset}/{share} needs fewer"
        )
        return found
    clips = []
    for path in with_progress(archives, archives[0].parent):
        try:
            clips += clips_in(path, found)
        except InputError as error:
            found.errors.append(str(error))
    found.splits = split_clips(clips, validation_every)
    return found
