"""Your own footage: `fgr` and `pha`, in which videos, folders of pictures, or pictures have the same names."""

import functools
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found, split_clips
from data_pipelines.archives.error_messages import other_kinds
from data_pipelines.archives.folders import PICTURES, VIDEOS, matting_records, pairs_in

VALIDATION_EVERY = 20
LEAST_TO_SPLIT = 3


def find(folder: Path, *_: object) -> Found:
    """All pairs of `fgr` and `pha`; of three or more, the 1st, 21st, 41st and so on by name are for validation.

    Of fewer, the first is for both.
    """
    for half in ("fgr", "pha"):
        if not (folder / half).is_dir():
            return Found(
                errors=[
                    f"{folder} has no folder {half}: expected fgr with foregrounds and pha with alphas of equal names"
                ]
            )
    pairs, errors = pairs_in(folder / "fgr", folder / "pha")
    if not pairs and not errors:
        only, kinds = other_kinds(folder / "fgr"), ", ".join(sorted(VIDEOS | PICTURES))
        errors = [f"{folder / 'fgr'} has no clips{only}: expected videos, pictures, or folders of these ({kinds})"]
    found = Found(errors=errors)
    clips = [ArchiveClip(name, pair, functools.partial(matting_records, *pair)) for name, pair in pairs.items()]
    if 0 < len(clips) < LEAST_TO_SPLIT:
        found.splits = {"train": clips, "validation": clips[:1]}
        found.warnings.append(
            f"{clips[0].name} is for training and for validation, which tells little so: {LEAST_TO_SPLIT} clips or "
            "more are divided, and a long take may be cut into three"
        )
    else:
        found.splits = split_clips(clips, VALIDATION_EVERY)
    return found
