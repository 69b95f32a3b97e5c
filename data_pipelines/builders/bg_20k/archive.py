"""BG-20k as its owners ship it: two folders of pictures."""

import functools
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.archives.error_messages import other_kinds
from data_pipelines.archives.folders import background_records
from data_pipelines.archives.stills import by_stem

FOLDER = "BG-20k"
PAGE = "https://github.com/JizhiziLi/GFM"
FOLDERS = {"train": ("train", 15_000), "test": ("testval", 5_000)}
SHORT_SIDE = 2048


def find(manual: Path, *_: object) -> Found:
    """The pictures of both folders, in the order of their names."""
    found = Found()
    splits = {}
    for split, (name, published) in FOLDERS.items():
        folder = manual / FOLDER / name
        if not folder.is_dir():
            found.errors.append(f"{folder} is not there: ask for BG-20k at {PAGE}, and extract it to {manual}")
            continue
        paths = [path for same in by_stem(folder, found.errors).values() for path in same]
        if not paths:
            found.errors.append(f"{folder} has no pictures{other_kinds(folder)}: get it again")
        elif len(paths) != published:
            found.warnings.append(f"{folder} has {len(paths)} pictures, but {published} were published")
        splits[split] = [_clip(path) for path in paths]
    found.splits = splits
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of both."""
    return [manual / FOLDER]


def _clip(path: Path) -> ArchiveClip:
    return ArchiveClip(path.name, (path,), functools.partial(background_records, path, short_side=SHORT_SIDE))
