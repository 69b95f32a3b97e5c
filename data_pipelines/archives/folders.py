"""Finding clips in folders: a video, numbered pictures, or one picture; paired, counted, encoded frame by frame.

Worker processes import this: nothing slow.
"""

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.archives import decode
from data_pipelines.archives.clip import Record
from data_pipelines.archives.error_messages import first_errors, first_few, other_kinds
from data_pipelines.archives.names import name_error
from rvm_jax.errors import InputError
from rvm_jax.host.progress import with_progress
from rvm_jax.video.picture_files import SUFFIXES as PICTURES
from rvm_jax.video.picture_files import natural_sort_key

VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}

Pair = tuple[Path, Path]
"""A clip's foreground and its alpha."""


class Reading(NamedTuple):
    """How the pictures of a kind of clip are read, and how its videos are."""

    picture: Callable[[Path], Image.Image]
    video: Callable[[Path], Iterator[np.ndarray]]


FOREGROUND = Reading(decode.read_foreground, decode.read_foreground_video)
ALPHA = Reading(decode.read_alpha, decode.read_alpha_video)
BACKGROUND = Reading(decode.read_picture, decode.read_video)


def clips_in(folder: Path) -> dict[str, Path]:
    """The clips of a folder by name (without extension), in order; none if there is no such folder."""
    clips: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not (path.is_dir() or path.suffix.lower() in PICTURES | VIDEOS):
            continue
        unusable = name_error(path)
        if unusable:
            raise InputError(unusable)
        name = path.name if path.is_dir() else path.stem
        if name in clips:
            raise InputError(f"{clips[name]} and {path} are two clips of one name: remove or rename one")
        clips[name] = path
    return clips


def pairs_in(foregrounds: Path, alphas: Path) -> tuple[dict[str, Pair], list[str]]:
    """The clips that are in both folders, by name, in order; and what is missing or does not fit, a line each."""
    try:
        have = clips_in(foregrounds), clips_in(alphas)
    except InputError as error:
        return {}, [str(error)]
    errors = []
    for folder, other, single in (
        (foregrounds, alphas, have[0].keys() - have[1].keys()),
        (alphas, foregrounds, have[1].keys() - have[0].keys()),
    ):
        if single:
            errors.append(
                f"{folder} has clips without the other half in {other}: {first_few(sorted(single))}; "
                "get what is missing, or remove these"
            )
    pairs = {name: (path, have[1][name]) for name, path in have[0].items() if name in have[1]}
    both = with_progress(pairs.values(), foregrounds.parent)
    return pairs, errors + first_errors(itertools.starmap(_check_pair, both))


def check_clips(clips: Collection[Path], where: Path) -> list[str]:
    """What is wrong with clips in the folder `where`, as far as it can be seen without decoding, a line each."""
    return first_errors(map(_check_clip, with_progress(clips, where)))


def _check_pair(foreground: Path, alpha: Path) -> str | None:
    try:
        lengths = length(foreground), length(alpha)
    except InputError as error:
        return str(error)
    if lengths[0] != lengths[1]:
        return (
            f"{foreground} has {lengths[0]} frames and {alpha} has {lengths[1]}: expected equally many; get both again"
        )
    if foreground.is_dir() and alpha.is_dir():
        single = {picture.stem for picture in _pictures(foreground)} ^ {picture.stem for picture in _pictures(alpha)}
        if single:
            return (
                f"{foreground} and {alpha} name their frames differently ({first_few(sorted(single))}): expected the "
                "same names in both"
            )
    return None


def _check_clip(path: Path) -> str | None:
    try:
        length(path)
    except InputError as error:
        return str(error)
    return None


def length(path: Path) -> int:
    """How many frames a clip has, one or more; nothing is decoded."""
    if path.is_dir():
        return len(_pictures(path))
    frames = decode.video_length(path) if path.suffix.lower() in VIDEOS else 1
    if frames == 0:
        raise InputError(f"{path} has no frames: get it again, or remove it")
    return frames


def matting_records(foreground: Path, alpha: Path, *, short_side: int | None = None) -> Iterator[Record]:
    """A record for each frame of a pair. JPEGs that are not shrunk keep their own bytes."""
    foregrounds, alphas = _jpegs(foreground, FOREGROUND, short_side), _frames(alpha, ALPHA, short_side)
    for number, (color, gray) in enumerate(itertools.zip_longest(foregrounds, alphas)):
        if color is None or gray is None:
            short, long = (foreground, alpha) if color is None else (alpha, foreground)
            raise InputError(f"{short} ends after {number} frames where {long} goes on: expected equally many")
        yield {"foreground": color, "alpha": decode.encode_png(gray[0])}


def background_records(path: Path, *, short_side: int, frames: int | None = None) -> Iterator[Record]:
    """A record for each of the first `frames` frames of a clip without people, of all if None."""
    for encoded in itertools.islice(_jpegs(path, BACKGROUND, short_side), frames):
        yield {"image": encoded}


def _jpegs(path: Path, reading: Reading, short_side: int | None) -> Iterator[bytes]:
    for image, picture in _frames(path, reading, short_side):
        kept = decode.jpeg_bytes(picture) if picture else None
        yield kept or decode.encode_jpeg(image)


def _frames(path: Path, reading: Reading, short_side: int | None) -> Iterator[tuple[Image.Image, Path | None]]:
    """The frames of a clip, and the picture that each was read from unless it comes from a video or was shrunk."""
    if path.suffix.lower() in VIDEOS and not path.is_dir():
        for frame in reading.video(path):
            yield _shrunk(Image.fromarray(frame), short_side), None
        return
    for picture in _pictures(path) if path.is_dir() else [path]:
        image = reading.picture(picture)
        small = _shrunk(image, short_side)
        yield small, picture if small is image else None


def _shrunk(image: Image.Image, short_side: int | None) -> Image.Image:
    return image if short_side is None else decode.shrink(image, short_side=short_side)


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in order, where 10 comes after 9: one or more."""
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from error
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not pictures:
        kinds = ", ".join(sorted(PICTURES))
        raise InputError(f"{folder} has no frames{other_kinds(folder)}: expected {kinds}; get it again, or remove it")
    unusable = next(filter(None, map(name_error, pictures)), None)
    if unusable:
        raise InputError(unusable)
    return sorted(pictures, key=natural_sort_key)
