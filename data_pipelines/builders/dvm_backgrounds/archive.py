"""The background videos of Deep Video Matting, and the lists of those in which no people are."""

import functools
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.archives.error_messages import first_few
from data_pipelines.archives.folders import background_records, check_clips, clips_in
from data_pipelines.archives.names import read_list
from rvm_jax.errors import InputError

FOLDERS = {
    "train": ("BackgroundVideosTrain/train", "DVM/bg/train"),
    "test": ("BackgroundVideosTest/test", "DVM/bg/test"),
}
"""Where the clips are: prepared as JPEGs, or as videos."""

LISTS = {"train": "dvm_background_train_clips.txt", "test": "dvm_background_test_clips.txt"}
FRAMES = 100
SHORT_SIDE = 1080
PAGE = "https://github.com/nowsyn/DVM"


def find(manual: Path, *_: object) -> Found:
    """The first 100 frames of every clip that the lists name, or of all clips where there is no list."""
    found = Found()
    splits = {}
    for split, names in FOLDERS.items():
        folder = next((manual / name for name in names if (manual / name).is_dir()), None)
        if folder is not None:
            clips = _chosen(folder, manual / LISTS[split], found)
            found.errors += check_clips(clips.values(), folder)
            # The two parts number their clips separately, so the name says which one it is.
            splits[split] = [_clip(f"{split}/{name}", path) for name, path in clips.items()]
        elif split == "train":
            found.errors.append(
                f"{manual} has no folder {' or '.join(names)}: they come with Deep Video Matting, {PAGE}"
            )
    found.splits = {split: clips for split, clips in splits.items() if clips}
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folders that hold those of all clips."""
    return [manual / Path(name).parts[0] for names in FOLDERS.values() for name in names]


def _chosen(folder: Path, names: Path, found: Found) -> dict[str, Path]:
    """The clips of a folder that a list names; what is wrong is added to `found`."""
    try:
        clips = clips_in(folder)
    except InputError as error:
        found.errors.append(str(error))
        return {}
    if not clips:
        found.errors.append(
            f"{folder} has no clips: expected 0000.mp4 and so on, or folders of pictures in their place"
        )
        return {}
    if not names.is_file():
        found.warnings.append(
            f"{names} is missing, so all {len(clips)} clips of {folder} are taken: people may be in some of them"
        )
        return clips
    try:
        listed = read_list(names)
    except InputError as error:
        found.errors.append(str(error))
        return {}
    missing = [name for name in listed if name not in clips]
    if missing:
        found.errors.append(
            f"{folder} has no clip for {len(missing)} of the {len(listed)} names in {names}: {first_few(missing)}; "
            "get them, or take the names out of the list"
        )
    return {name: clips[name] for name in listed if name in clips}


def _clip(name: str, path: Path) -> ArchiveClip:
    return ArchiveClip(name, (path,), functools.partial(background_records, path, short_side=SHORT_SIDE, frames=FRAMES))
