"""Any folder of pictures without people. The 8,000 of the paper were never published."""

import functools
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found, split_clips
from data_pipelines.archives.error_messages import first_errors, other_kinds
from data_pipelines.archives.folders import background_records
from data_pipelines.archives.names import name_error
from rvm_jax.video.picture_files import SUFFIXES

FOLDER = "backgrounds"
SHORT_SIDE = 2048
FEW = 1000
VALIDATION_EVERY = 40


def find(manual: Path, *_: object) -> Found:
    """All pictures below `backgrounds`; of two or more, the 1st, 41st, 81st and so on by name are for validation."""
    folder = manual / FOLDER
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _is_picture(path, folder))
    kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
    if not paths:
        only = other_kinds(folder) if folder.is_dir() else ""
        return Found(
            errors=[f"{folder} has no pictures{only}: put pictures without people there, thousands of them ({kinds})"]
        )
    found = Found(errors=first_errors(map(name_error, paths)))
    if len(paths) < FEW:
        found.warnings.append(
            f"{folder} has {len(paths)} {'pictures' if len(paths) > 1 else 'picture'}: add more, up to the 8,000 of "
            "the paper; with 200, others got twice the error"
        )
    clips = [_clip(path.relative_to(folder).as_posix(), path) for path in paths]
    found.splits = split_clips(clips, VALIDATION_EVERY)
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of pictures."""
    return [manual / FOLDER]


def _is_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden


def _clip(name: str, path: Path) -> ArchiveClip:
    return ArchiveClip(name, (path,), functools.partial(background_records, path, short_side=SHORT_SIDE))
