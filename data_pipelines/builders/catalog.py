"""The catalog of datasets by name: what each is for, what lies in the manual folder, and its builder."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.archives.clip import Archive, Found
from data_pipelines.builders.synthetic import ROLES
from rvm_jax.errors import InputError

DATASETS: Mapping[str, str] = {
    "video_matte_240k/sd": "matting clips of stages 1 and 2",
    "video_matte_240k/hd": "matting clips of stage 3",
    "image_matte": "matting images of stage 4: people of Distinctions-646 and Adobe Image Matting",
    "dvm_backgrounds": "background clips",
    "background_images": "background images: any folder of pictures without people",
    "youtube_vis_2021": "segmentation clips",
    "coco_person": "segmentation stills",
    "supervisely_person": "segmentation stills",
}
SYNTHETIC: Mapping[str, str] = {f"synthetic/{role}": "made from a seed, nothing to download" for role in ROLES}


def named(names: list[str]) -> list[str]:
    """The datasets that `names` ask for: `all` is those of `DATASETS`, and a dataset's bare name all of its configs."""
    if not names:
        raise InputError(f"no dataset was named: choose all, synthetic or of {', '.join(DATASETS)}")
    known = [*DATASETS, *SYNTHETIC]
    chosen: list[str] = []
    for name in names:
        matches = list(DATASETS) if name == "all" else [one for one in known if name in (one, one.split("/")[0])]
        if not matches:
            raise InputError(f"there is no dataset {name!r}: choose all, synthetic or of {', '.join(DATASETS)}")
        chosen += [one for one in matches if one not in chosen]
    return chosen


def find(name: str, manual: Path, data_dir: Path) -> Found:
    """What the manual folder holds of a dataset of `DATASETS`."""
    return _archive(name).find(manual, name.partition("/")[2], data_dir)


def lies_in(name: str, manual: Path, data_dir: Path) -> bool:
    """Whether anything of a dataset of `DATASETS` is there to be prepared, be it faulty."""
    places = _archive(name).places(manual, name.partition("/")[2], data_dir)
    return any(any(place.iterdir()) if place.is_dir() else place.exists() for place in places)


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
    config = config or name.partition("/")[2] or None
    return builder_class(name)(data_dir=data_dir, config=config, file_format="array_record", anew=anew)
