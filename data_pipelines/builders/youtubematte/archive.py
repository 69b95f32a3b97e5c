"""YouTubeMatte as its owners ship it: clips in two sizes, on still and on moving backgrounds."""

from pathlib import Path

from data_pipelines.archives.clip import Found
from data_pipelines.archives.composites_with_truth import clip, frames_in

FOLDER = "YouTubeMatte"
PAGE = "https://github.com/pq-yang/MatAnyone"
KINDS = ("youtubematte_motion", "youtubematte_static")


def find(manual: Path, config: str, *_: object) -> Found:
    """The clips of a size: `har` is what a method is given, harmonised, and `pha` the truth."""
    found = Found()
    splits = {}
    for kind in KINDS:
        folder = manual / FOLDER / f"youtubematte_{config}" / kind
        names = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        if not names:
            found.errors.append(f"{folder} has no clips: get YouTubeMatte.zip by {PAGE}, and extract it to {manual}")
        frames = {path.name: frames_in(path / "har", path / "pha", found.errors) for path in names}
        splits[kind] = [clip(name, pairs) for name, pairs in frames.items() if pairs]
    found.splits = splits
    return found


def places(manual: Path, config: str, *_: object) -> list[Path]:
    """The folder of a size."""
    return [manual / FOLDER / f"youtubematte_{config}"]
