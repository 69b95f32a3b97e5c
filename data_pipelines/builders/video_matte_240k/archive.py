"""VideoMatte240K as its authors ship it: videos of up to 4K, or archives of JPEGs in two sizes."""

import functools
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.archives.folders import Pair, matting_records, pairs_in

ORIGINAL = "VideoMatte240K"
SD = "VideoMatte240K_JPEG_SD"
HD = "VideoMatte240K_JPEG_HD"
FOLDERS = {"sd": (SD, ORIGINAL, HD), "hd": (HD, ORIGINAL)}
"""What each size can be made from, the best first: what has that size already, then the least compressed."""

SHORT_SIDE = {"sd": 432, "hd": 1080}
PUBLISHED = {"train": 479, "test": 5}
VALIDATION = ("0000", "0100", "0200", "0300")
PAGE = "https://grail.cs.washington.edu/projects/background-matting-v2/"


def find(manual: Path, size: str, *_: object) -> Found:
    """The clips for `size`, "sd" or "hd", with the validation clips of the published recipe taken out of train."""
    source = next((manual / name for name in FOLDERS[size] if (manual / name).is_dir()), None)
    if source is None:
        there = f", only {SD}, which is too small" if (manual / SD).is_dir() else ""
        names = " or ".join(FOLDERS[size])
        return Found(
            errors=[f"{manual} has no folder {names}{there}: ask the authors of VideoMatte240K for it, {PAGE}"]
        )
    found = Found()
    halves = {}
    for half in PUBLISHED:
        halves[half], errors = pairs_in(source / half / "fgr", source / half / "pha")
        found.errors += errors
    if not halves["train"] and not found.errors:
        found.errors.append(
            f"{source} has no clips: expected train/fgr/0000.mp4 and train/pha/0000.mp4, or folders of JPEGs in their "
            f"place; get it from the authors of VideoMatte240K, {PAGE}"
        )
    for half, published in PUBLISHED.items():
        if len(halves[half]) != published:
            found.warnings.append(f"{source / half} has {len(halves[half])} clips: {published} were published")
    held_out = {name: pair for name, pair in halves["train"].items() if name in VALIDATION}
    splits = {
        "train": {name: pair for name, pair in halves["train"].items() if name not in held_out},
        "validation": held_out,
        "test": halves["test"],
    }
    found.splits = {
        split: [_clip("test" if split == "test" else "train", name, pair, size) for name, pair in pairs.items()]
        for split, pairs in splits.items()
        if pairs
    }
    return found


def places(manual: Path, size: str, *_: object) -> list[Path]:
    """The folders that can make `size`."""
    return [manual / name for name in FOLDERS[size]]


def _clip(half: str, name: str, pair: Pair, size: str) -> ArchiveClip:
    # The halves number their clips separately, so the name says which one it is.
    return ArchiveClip(f"{half}/{name}", pair, functools.partial(matting_records, *pair, short_side=SHORT_SIDE[size]))
