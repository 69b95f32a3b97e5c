"""The catalog of datasets by name: what each is for, its licence, what lies in the manual folder, and its builder."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.archives import parts
from data_pipelines.archives.clip import Archive, Found
from data_pipelines.builders.licence_table import LICENCES
from data_pipelines.builders.synthetic import ROLES
from data_pipelines.records.licences import Licence
from rvm_jax.errors import InputError

DATASETS: Mapping[str, str] = {
    "video_matte_240k/sd": "matting clips of stages 1 and 2",
    "video_matte_240k/hd": "matting clips of stage 3",
    "image_matte": "matting images of stage 4",
    "synthhuman": "matting images: rendered people (a share: synthhuman/0-5)",
    "p3m_10k": "matting images: portraits with blurred faces",
    "dvm_backgrounds": "background clips",
    "background_images": "background images: your own, without people",
    "pass_backgrounds": "background images (a share: pass_backgrounds/0)",
    "bg_20k": "background images",
    "youtube_vis_2021": "segmentation clips",
    "coco_person": "segmentation stills",
    "coco_person/free": "segmentation stills of free licences",
    "supervisely_person": "segmentation stills",
}
SYNTHETIC: Mapping[str, str] = {f"synthetic/{role}": "made from a seed, nothing to download" for role in ROLES}
TEST_SETS: Mapping[str, str] = {
    "youtubematte/512x288": "test set: clips on other backgrounds",
    "youtubematte/1920x1080": "test set: the same, large",
    "p3m_500": "test set: portraits",
    "crgnn_real": "test set: clips as they were filmed, alpha on some frames",
}
"""Never trained on: `rvm data testset` writes them as `rvm evaluate` reads them, from what their owners give."""


def named(names: list[str]) -> list[str]:
    """The datasets that `names` ask for: `all` is those of `DATASETS`, and a dataset's bare name all of its configs."""
    if not names:
        raise InputError(f"no dataset was named: choose all, synthetic or of {', '.join(DATASETS)}")
    chosen: list[str] = []
    for name in names:
        chosen += [one for one in _named(name) if one not in chosen]
    return chosen


def _named(name: str) -> list[str]:
    known = [*DATASETS, *SYNTHETIC, *TEST_SETS]
    dataset, _, config = name.partition("/")
    if name == "all":
        return list(DATASETS)
    if name in known:
        return [name]
    if dataset in parts.COUNTS:
        parts.chosen(dataset, config)
        return [name]
    matches = [one for one in known if name == one.split("/")[0]]
    if not matches:
        raise InputError(
            f"there is no dataset {name!r}: choose all, synthetic or of {', '.join([*DATASETS, *TEST_SETS])}"
        )
    return matches


def purpose(name: str) -> str:
    """What a dataset is for, in a few words."""
    known = {**DATASETS, **SYNTHETIC, **TEST_SETS, "footage": "matting clips of your own"}
    return known[name if name in known else name.partition("/")[0]]


def licence(name: str) -> Licence:
    """What the owner of a dataset lets people do with it."""
    return LICENCES[name if name in LICENCES else name.partition("/")[0]]


def find(name: str, manual: Path, data_dir: Path) -> Found:
    """What the manual folder holds of a dataset that has an archive."""
    return _archive(name).find(manual, name.partition("/")[2], data_dir)


def lies_in(name: str, manual: Path, data_dir: Path) -> bool:
    """Whether anything of such a dataset is there, be it faulty."""
    places = _archive(name).places(manual, name.partition("/")[2], data_dir)
    return any(any(place.iterdir()) if place.is_dir() else place.exists() for place in places)


def shares(name: str, manual: Path) -> list[str]:
    """The dataset, or the shares of it that the manual folder holds, if it comes in parts and only some are there."""
    if name not in parts.COUNTS:
        return [name]
    archive: Any = _archive(name)
    numbers = range(parts.COUNTS[name])
    there = [number for number in numbers if (manual / archive.FOLDER / archive.file_name(number)).is_file()]
    return [name] if len(there) in (0, len(numbers)) else [f"{name}/{share}" for share in parts.shares(there)]


def refuse_file(manual: Path) -> None:
    """The manual folder may be absent, but nothing else may have its name."""
    if manual.exists() and not manual.is_dir():
        raise InputError(f"{manual} is a file: give the folder in which the datasets lie, --manual DIR")


def _archive(name: str) -> Archive:
    archive: Any = importlib.import_module(f"data_pipelines.builders.{name.partition('/')[0]}.archive")
    return archive


def builder_class(name: str) -> Any:
    """The class of the TFDS builder of a dataset."""
    dataset = name.partition("/")[0]
    return importlib.import_module(f"data_pipelines.builders.{dataset}.{dataset}_dataset_builder").Builder


def builder(name: str, data_dir: Path, config: Any = None, *, anew: bool = False) -> Any:
    """The TFDS builder of a dataset, with records that can be read in any order."""
    import tensorflow_datasets as tfds

    builder, known = builder_class(name), name.partition("/")[2]
    if config is None and known:
        config = builder.builder_configs.get(known) or tfds.core.BuilderConfig(name=known)
    return builder(data_dir=data_dir, config=config, file_format="array_record", anew=anew)
