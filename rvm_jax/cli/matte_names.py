"""The names that `rvm matte` is given: folders of videos and patterns are looked up, and {name} is filled in."""

import glob
import re
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.host.paths import is_url

NAME = "{name}"

VIDEOS = {
    *(".3gp", ".asf", ".avi", ".divx", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
}
"""What videos in a folder are called; a file that is given by its name may be called anything."""


def inputs(texts: list[str]) -> list[str]:
    """What is to be matted: each video of a folder that holds no pictures, and what a pattern such as *.mp4 names.

    A shell does the latter, but not that of Windows.
    """
    return [name for text in texts for name in _inputs(text)]


def _inputs(text: str) -> list[str]:
    path = Path(text).expanduser()
    if path.is_dir():
        inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
        videos = [str(one) for one in inside if one.suffix.lower() in VIDEOS]
        pictures = any(one.suffix.lower() in _picture_endings() for one in inside)
        if videos and pictures:
            raise InputError(f"{text} holds pictures and videos: name the videos, as in {path}/*.mp4, or move one kind")
        return videos or [text]
    if glob.has_magic(text) and not is_url(text) and not path.exists():
        return sorted(glob.glob(str(path))) or [text]  # noqa: PTH207 — the pattern may begin with a drive
    return [text]


def _picture_endings() -> set[str]:
    from rvm_jax.video.reading.picture_decoding import SUFFIXES

    return {*SUFFIXES, ".gif"}


def output(text: str, name: str, names: list[str]) -> str:
    """Where to write what is made of `name`, one of `names`."""
    if unknown := [one for one in re.findall(r"\{\w*\}", text) if one != NAME]:
        raise InputError(f"{text}: {unknown[0]} is unknown: only {NAME} is filled in, with the name of what is matted")
    if NAME not in text:
        if len(names) > 1:
            raise InputError(f"{text} is to hold {len(names)} results: write {NAME} in it, as in 'mattes/{NAME}.mov'")
        return text
    called = [_stem(one) for one in names]
    twice = [one for one in called if called.count(one) > 1]
    if twice:
        raise InputError(f"two inputs are called {twice[0]}, so both would be written to one place: rename one")
    return text.replace(NAME, _stem(name))


def _stem(name: str) -> str:
    """The name without the folders before it, and without the ending of a video or picture: take1.2 has none."""
    path = Path(name)
    if name == "-":
        return "stdin"
    return path.stem if path.suffix.lower() in VIDEOS | _picture_endings() and not path.is_dir() else path.name
