"""The layout of test sets and predictions on disk, which is that of the published ones.

    SET/<dataset>_<motion or static>/<clip>/{com,pha,fgr,bgr}/<frame>.png

`com` is what a method is given, `pha` and `fgr` are the truth, of all frames or of some, `bgr` is the background
alone, for each frame or one for all; predictions have `pha`, and `fgr` if they tell colours. Frames are matched by
their names.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import picture_files

MADE_HERE = "testset.json"
"""What `rvm data testset` leaves in the folder of a test set: one whose composites are not the published ones."""

LOSSY = {".jpeg", ".jpg"}

FramePaths = Mapping[str, Path]
"""Pictures by name, in order."""


class EvaluationClip(NamedTuple):
    """A clip of a test set: its dataset, as the folder is called, its name, and its frames, 2.png before 10.png."""

    dataset: str
    name: str
    com: FramePaths
    pha: FramePaths
    fgr: FramePaths
    bgr: FramePaths = MappingProxyType({})

    @property
    def label(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def frames(self) -> list[str]:
        """The names of all frames that a method is given, whether or not their truth is known."""
        return list(self.com or self.pha)

    @property
    def numbers(self) -> list[int]:
        """Of the frames with truth, counted from 0."""
        return [number for number, name in enumerate(self.frames) if name in self.pha]

    @property
    def has_gaps(self) -> bool:
        """Whether there is a frame without truth between two that have it."""
        numbers = self.numbers
        return numbers[-1] - numbers[0] >= len(numbers)


def find(folder: Path) -> list[EvaluationClip]:
    """The clips of a test set. Raises `InputError`, with the name of the clip, where it is not as it should be."""
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give the folder of a test set, such as `rvm data testset` makes")
    clips = []
    for dataset in _folders(folder):
        for path in _folders(dataset):
            clips.append(_clip(dataset.name, path))
    if not clips:
        raise InputError(f"{folder} is no test set: expected {folder}/DATASET/CLIP/com, pha and fgr")
    return clips


def background(clip: EvaluationClip, name: str) -> Path:
    """The background of a frame: its own, or the one that all frames of the clip have."""
    return clip.bgr.get(name) or next(iter(clip.bgr.values()))


def check_background(clip: EvaluationClip) -> None:
    """Raise `InputError` unless every frame of a clip has its background."""
    where = f"{clip.label}/bgr"
    if not clip.bgr:
        raise InputError(f"{clip.label} has no background, which a method wants: expected pictures in {where}")
    if len(clip.bgr) > 1:
        _check_names(clip.bgr, clip.frames, clip.frames, where, f"the clip {clip.label}")


def backgrounds_in_words(clips: Sequence[EvaluationClip]) -> str:
    """What a method that wants backgrounds is given."""
    moving = sum(len(clip.bgr) > 1 for clip in clips)
    kinds = [
        f"{words} ({count} of {len(clips)} clips)"
        for words, count in (("its own background", moving), ("the one of its clip", len(clips) - moving))
        if count
    ]
    return " or ".join(kinds)


def predicted(folder: Path, clip: EvaluationClip) -> tuple[FramePaths, FramePaths]:
    """A method's alpha, and its foreground if there is any, for the frames of a clip that have truth."""
    path = folder / clip.dataset / clip.name
    if not path.is_dir():
        raise InputError(f"{folder} has no predictions of {clip.label}: expected {path}/pha")
    pha = _frames(path / "pha")
    if not pha:
        raise InputError(f"{path} has no alpha: expected pictures in {path}/pha")
    fgr = _frames(path / "fgr")
    for kind, found in (("pha", pha), ("fgr", fgr or clip.pha)):
        _check_names(found, clip.pha, clip.frames, f"{path}/{kind}", f"the truth of {clip.label}")
    return {name: pha[name] for name in clip.pha}, {name: fgr[name] for name in clip.pha if name in fgr}


def size(clip: EvaluationClip) -> tuple[int, int]:
    """Height and width of a clip's first frame, which those of all frames are expected to be."""
    first = picture_files.read_picture(next(iter(clip.pha.values())))
    return first.height, first.width


def holds_predictions(folder: Path, clips: list[EvaluationClip]) -> bool:
    """Whether a folder is one of predictions rather than one of weights."""
    return folder.is_dir() and any((folder / clip.dataset).is_dir() for clip in clips)


def read_alpha(path: Path) -> np.ndarray:
    """float32 [H, W, 1] in 0..1: a gray picture, or the alpha of one with transparency, such as `rvm matte` writes."""
    image = picture_files.read_picture(path)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = _gray_or_alpha(image.convert("RGBA"))
    if image.mode.startswith("I"):  # 16 bits
        return (np.asarray(image, np.float32) / 65535)[..., None]
    if image.mode == "RGB":
        image = image.getchannel("G")
    return np.asarray(image.convert("L"), np.float32)[..., None] / 255


def _gray_or_alpha(image: Image.Image) -> Image.Image:
    """The alpha of an RGBA picture; its gray if it is one that is opaque, which some programs write with alpha."""
    red, green, blue, alpha = image.split()
    opaque_gray = alpha.getextrema() == (255, 255) and red.tobytes() == green.tobytes() == blue.tobytes()
    return red if opaque_gray else alpha


def read_color(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(picture_files.read_picture(path).convert("RGB"))


def _clip(dataset: str, path: Path) -> EvaluationClip:
    com, pha, fgr, bgr = (_frames(path / kind) for kind in ("com", "pha", "fgr", "bgr"))
    if not pha:
        raise InputError(f"{dataset}/{path.name} has no truth: expected pictures in {path}/pha")
    lossy = next((file for file in pha.values() if file.suffix.lower() in LOSSY), None)
    if lossy:
        raise InputError(f"{dataset}/{path.name} has its true alpha as JPEG ({lossy.name}), which changes it: get PNGs")
    if com:
        _check_names(com, pha, com, f"{path}/com", f"{path}/pha")
    if fgr:
        _check_names(fgr, pha, pha, f"{path}/fgr", f"{path}/pha")
    return EvaluationClip(dataset, path.name, com, pha, fgr, bgr)


def _check_names(found: FramePaths, wanted: Collection[str], allowed: Collection[str], where: str, others: str) -> None:
    """Raise `InputError` unless all frames that are wanted were found, and only those that are allowed."""
    missing, more = sorted(set(wanted) - found.keys()), sorted(found.keys() - set(allowed))
    differ = [
        f"{len(names)} {what} ({names[0]})" for names, what in ((missing, "missing"), (more, "too many")) if names
    ]
    if differ:
        raise InputError(
            f"{where} has {len(found)} frames and {others} {len(wanted)}: {', '.join(differ)}; expected equal names"
        )


def _frames(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = [path for path in folder.iterdir() if path.suffix.lower() in picture_files.SUFFIXES and path.name[0] != "."]
    return {path.stem: path for path in sorted(found, key=picture_files.natural_sort_key)}


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
