"""Test sets: people on still and on moving backgrounds, as files in the layout that published predictions use.

    OUT/<dataset>_<static or motion>/<clip>/{com,pha,fgr,bgr}/0000.png    (d646_static for the split test_d646)

`com` is what a method is given; `pha` and `fgr` are the truth. A clip is a function of the seed and its number, so the
same command makes the same set anywhere, and goes on where it was interrupted.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from data_pipelines.pipelines import matting, matting_pixels
from data_pipelines.pipelines.matting import MattingAugmentation, MattingData
from data_pipelines.pipelines.samples import Plan
from data_pipelines.records.clips import Clips, concatenate, how_to_prepare, open_clips, open_prepared, prepared_folder
from data_pipelines.sampling import random_draws, windows
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.paths import Location
from rvm_jax.host.progress import with_progress
from rvm_jax.video.picture_files import PNG_EFFORT

LAYERS = ("com", "pha", "fgr", "bgr")
SETTINGS = "testset.json"
SLOW_MOTION = replace(matting.NONE, move_foreground=1.0)
"""What makes a clip of a single picture."""


@dataclass(frozen=True)
class Settings:
    """What a test set is made of. Two with equal settings are equal.

    Attributes:
        foregrounds: Prepared matting datasets.
        backgrounds: Prepared background datasets, images and clips.
        split: Which part of them; None for test, or validation of datasets that have no test at all. Backgrounds
            without it give what they have.
        height: Of the frames.
        width: Of the frames.
        frames: In a clip, or fewer if its foreground is a video that has fewer.
        clips: At most so many clips of each dataset; 0 for all.
        seed: Chooses backgrounds and movements.
    """

    foregrounds: tuple[str, ...]
    backgrounds: tuple[str, ...]
    split: str | None = None
    height: int = 288
    width: int = 512
    frames: int = 100
    clips: int = 0
    seed: int = 0


def build(settings: Settings, data_dir: Location, out: Path) -> int:
    """Write a test set from prepared datasets, or what is missing of it; returns how many clips it has."""
    people = dict(_people(name, settings.split, data_dir) for name in settings.foregrounds)
    kinds = ("test", "validation", "train")
    opened = [open_clips([name], settings.split or "test", data_dir, otherwise=kinds) for name in settings.backgrounds]
    stills, moving = ([clips for clips in opened if (clips.lengths.max() == 1) == still] for still in (True, False))
    check_settings(settings, out)
    parts = [
        (f"{name}_{kind}", replace(MattingData(clips), **{of: concatenate(those)}))
        for name, clips in people.items()
        for kind, of, those in (("static", "background_images", stills), ("motion", "background_clips", moving))
        if those
    ]
    wanted = [
        (out / name / f"{number:04d}", data, number)
        for name, data in parts
        for number in range(min(len(data.foregrounds), settings.clips or len(data.foregrounds)))
    ]
    for folder, data, number in with_progress(wanted, out, "writing"):
        if not folder.is_dir():
            write_clip(folder, data, number, settings)
    return len(wanted)


def part(dataset: str, splits: Sequence[str], wanted: str | None) -> str:
    """The split of foregrounds to use, of those that a dataset has: the wanted one, or what None stands for."""
    tested = [split for split in splits if split.startswith("test")]
    default = "test" if tested or "validation" not in splits else "validation"
    split = wanted or default
    if split not in splits:
        *others, last = [*tested, *sorted(set(splits) - set(tested), reverse=True)]  # validation or train
        have = f"{', '.join(others)} or {last}" if others else last
        raise InputError(f"{dataset} has no part {split!r}: give --split {have}")
    return split


def title(dataset: str, split: str) -> str:
    """What the folders of a dataset's split are called, before the kind of background: test_d646 is d646."""
    return split.removeprefix("test_") if split.startswith("test_") else dataset.replace("/", "_")


def _people(dataset: str, wanted: str | None, data_dir: Location) -> tuple[str, Clips]:
    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        raise InputError(f"{dataset} is not prepared in {data_dir}: {how_to_prepare(dataset, data_dir)}")
    split = part(dataset, list(open_prepared(folder).tables), wanted)
    return title(dataset, split), open_clips([dataset], split, data_dir)


def check_settings(settings: Settings, out: Path) -> None:
    """Note the settings in the folder; refuse one that was begun with others, or holds other things."""
    path = out / SETTINGS
    wanted: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    if path.exists():
        found = json.loads(path.read_text())
        differences = [
            f"{key} {found.get(key)} (now {value})" for key, value in wanted.items() if found.get(key) != value
        ]
        if differences:
            raise InputError(f"{out} holds a test set with {', '.join(differences)}: give another folder, or the same")
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and no test set: give another folder")
    with replacing(path) as partial:
        partial.write_text(json.dumps(wanted, indent=1) + "\n")


def write_clip(folder: Path, data: MattingData, number: int, settings: Settings) -> None:
    """Write one clip: the foreground of this number.

    Its pixels, gigabytes of large frames, are in files meanwhile, and composited frame by frame.
    """
    plan = _plan(data, number, folder.parent.name, settings)
    backgrounds = data.background_images if len(data.background_images) else data.background_clips
    shape = len(plan["pause"]), settings.height, settings.width
    with replacing(folder) as partial:
        out = [
            np.memmap(partial.parent / name, np.uint8, "w+", shape=(*shape, channels))
            for name, channels in (("fgr", 3), ("pha", 1), ("bgr", 3))
        ]
        matting_pixels.render(plan, data.foregrounds, backgrounds, max(settings.height, settings.width), out=out)
        for layer in LAYERS:
            (partial / layer).mkdir(parents=True)
        for frame, (foreground, alpha, background) in enumerate(zip(*out, strict=True)):
            composite = matting_pixels.composite(foreground, alpha, background)
            for layer, pixels in zip(LAYERS, (composite, alpha[..., 0], foreground, background), strict=True):
                Image.fromarray(pixels).save(partial / layer / f"{frame:04d}.png", compress_level=PNG_EFFORT)


def _plan(data: MattingData, number: int, stream: str, settings: Settings) -> Plan:
    """How the foreground with this number is placed before a background, in NumPy's arrays."""
    people = data.foregrounds
    first, length = int(people.firsts[number]), int(people.lengths[number])
    frames = settings.frames if length == 1 else min(settings.frames, length)
    only = windows.Windows(*(np.array([value]) for value in (first, length, 0)))
    at = random_draws.Position(settings.seed, stream, tf.constant(number, tf.int64))
    how: MattingAugmentation = SLOW_MOTION if length == 1 else matting.NONE
    plan = matting.plan(at, data, only, frames, how)
    return tf.nest.map_structure(np.asarray, plan | {"height": settings.height, "width": settings.width})
