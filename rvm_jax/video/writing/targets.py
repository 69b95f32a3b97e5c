"""Targets: what is written where, named and checked before anything is done."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rvm_jax.errors import InputError
from rvm_jax.host.buckets import in_bucket, local_path
from rvm_jax.video import backgrounds, sink
from rvm_jax.video.writing import live

PathLike = str | os.PathLike[str]

Places = dict[Path, tuple[Path, str]]
"""Files and all folders that they lie in, each with such a file and what is to be done with it."""


class Target(NamedTuple):
    name: str
    """As it was given."""
    ending: str
    """What says how it is written: that of a file, "" for a folder of pictures, or a key of `live.KINDS`."""

    @property
    def path(self) -> Path | None:
        return None if self.ending in live.KINDS else Path(self.name).expanduser()

    @property
    def keeps_alpha(self) -> bool:
        if self.ending in live.KINDS:
            return live.KINDS[self.ending].transparent is not None
        return sink.keeps_alpha(self.ending)


def target(text: PathLike, pipe: str = "nut") -> Target:
    """What a name stands for. A name that ends with / is that of a folder, also if it has a dot in it."""
    name = os.fspath(text)
    ending = live.kind(name, pipe)
    if ending is None:
        local_path(name)
        ending = "" if name.endswith(("/", os.sep)) else Path(name).suffix.lower()
    return Target(name, ending)


def outputs(
    main: PathLike,
    background: str | None,
    others: dict[str, PathLike | None],
    pipe: str = "nut",
) -> dict[str, Target]:
    """What to write where, the main thing first: cut out, unless there is to be a background."""
    first = target(main, pipe)
    cut_out = background == backgrounds.TRANSPARENT or (background is None and first.keeps_alpha)
    if cut_out and not first.keeps_alpha:
        raise InputError(f"{first.name} cannot be transparent: write .mov, .webm, .mkv, .gif or a folder of pictures")
    found = {"cut_out" if cut_out else "composite": first}
    return found | {kind: target(text, pipe) for kind, text in others.items() if text is not None}


def read_places(names: Sequence[str], background: str | None = None, plate: str | None = None) -> Places:
    """Where no target may be, since it is to be read or holds what is; `names` are all that is to be matted."""
    found: Places = {}
    others = [(background or "", "put behind people"), (plate or "", "taken as the clean plate")]
    for name, what in [*((name, "matted") for name in names), *others]:
        if in_bucket(name):
            local_path(name)
        if file := _existing(name):
            for place in (file, *file.parents):
                found.setdefault(place, (file, what))
    return found


def check(read: Places, targets: list[Target], *, force: bool) -> None:
    """Refuse what cannot be written beside what is `read`, before anything is done."""
    for one in targets:
        if one.path is not None:
            _check_path(one.path, one.ending, read, force)
    places = {one.name if one.path is None else os.path.realpath(one.path) for one in targets}
    if len(places) < len(targets):
        raise InputError(f"{targets[0].name} is to hold several things: give each output a name of its own")
    paths = [Path(os.path.realpath(one.path)) for one in targets if one.path is not None]
    for path in paths:
        if within := next((other for other in paths if other in path.parents), None):
            raise InputError(f"{path} would lie in {within}, which is made anew: give it another place")


def _check_path(path: Path, ending: str, read: Places, force: bool) -> None:
    place = Path(os.path.realpath(path))
    if place in read:
        file, what = read[place]
        where = "is" if place == file else "holds"
        raise InputError(f"{path} {where} what is to be {what}: give another name to write to")
    if ending:
        sink.check_kind(path)
    if path.exists() and not force and not (ending == "" and is_empty_folder(path)):
        raise InputError(f"{path} exists already: choose another name, or overwrite it with --force")
    if path.exists() and path.is_dir() != (ending == ""):
        found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise InputError(f"{path} is a {found}, and a {expected} would be written: choose another name")
    if path.is_dir():
        other = next((inside.name for inside in path.iterdir() if not sink.is_picture(inside)), None)
        if other:
            raise InputError(f"{path} holds {other}, not only pictures, and is not overwritten: give another folder")


def are_written(targets: list[Target]) -> bool:
    """Whether all of them are there. What has its name is whole, as long as nobody has stopped it."""
    paths = [one.path for one in targets]
    return all(path is not None and path.exists() and not is_empty_folder(path) for path in paths)


def is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def set_aside(one: Target) -> str:
    """Give a file or folder that holds less than it should another name, `talk.unfinished.mp4`; returns that."""
    path = one.path
    if path is None or not path.exists():
        return one.name
    other = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    if other.is_dir():
        shutil.rmtree(other)
    return str(path.replace(other))


def _existing(name: str) -> Path | None:
    """The file or folder that is called so, if it is none of a URL, a colour or the like."""
    try:
        path = Path(os.path.realpath(Path(name).expanduser()))
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # a name that cannot be
        return None
