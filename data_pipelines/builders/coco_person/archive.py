"""COCO 2017 with panoptic annotations: the owners' zip files, and what TFDS's `coco/2017_panoptic` makes of them.

TFDS reads its array_record files without importing TensorFlow, so worker processes may import this module.
"""

import functools
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data_pipelines.archives import decode
from data_pipelines.archives.clip import ArchiveClip, Found, Record
from data_pipelines.archives.error_messages import sized
from data_pipelines.archives.members import ZipMember
from rvm_jax.errors import InputError
from rvm_jax.host.progress import with_progress
from rvm_jax.video.picture_files import DAMAGED

URL = "http://images.cocodataset.org/"
ANNOTATIONS = "annotations/panoptic_annotations_trainval2017.zip"
ZIPS = ("zips/train2017.zip", "zips/val2017.zip", ANNOTATIONS)
SPLITS = {"train": "train2017", "validation": "val2017"}
MASKED = ("person", "backpack", "tie")
"""What a person wears belongs to the matte."""
FREE = "free"
FREE_LICENCES = ("/licenses/by/", "flickr.com/commons/usage", "www.usa.gov/copyright")
"""Of the addresses of the eight licences in COCO's JSON, those parts that tell licences which ask for no more than the
photographer's name: CC BY, no known restrictions, works of the US government. Not those that forbid commercial use or
changes, nor the one that asks for the same licence on what is made of a picture."""


def panoptic_folder(data_dir: Path) -> Path:
    """Where TFDS keeps `coco/2017_panoptic`."""
    return data_dir / "coco" / "2017_panoptic" / "1.1.0"


def find(manual: Path, config: str, data_dir: Path) -> Found:
    """The pictures with a person, if TFDS's dataset is in `data_dir`; otherwise, whether it can be made.

    The former reads all of that dataset, 20 GB, since labels lie beside the pictures there. The config "free" takes
    those pictures alone whose own licence is one of `FREE_LICENCES`.
    """
    found = Found()
    if config not in ("", FREE):
        found.errors.append(f"there is no dataset coco_person/{config}: expected coco_person or coco_person/{FREE}")
        return found
    folder = panoptic_folder(data_dir)
    if not folder.is_dir():
        for url in ZIPS:
            path = manual / url.split("/")[-1]
            if not path.is_file():
                found.errors.append(f"{path} is not there: get it from {URL}{url}, and leave it zipped")
            elif not zipfile.is_zipfile(path):
                found.errors.append(f"{path} is cut short or no zip file: get it again from {URL}{url}")
        found.warnings.append(
            f"TFDS's coco/2017_panoptic will be prepared first: {data_dir} needs some 65 GB for that, and keeps 20 GB"
        )
        return found
    try:
        stored = tfds.builder_from_directory(folder).info
    except OSError as error:
        found.errors.append(f"{folder} is not a dataset of TFDS ({error}): remove it, and it is prepared anew")
        return found
    if stored.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        found.errors.append(
            f"{folder} is stored as {stored.file_format.value}, but array_record is expected: move it away, "
            "and it is prepared anew from the owners' zip files"
        )
        return found
    try:
        free = {split: _free_pictures(manual, split) if config == FREE else None for split in SPLITS}
    except InputError as error:
        found.errors.append(str(error))
        return found
    found.splits = {split: list(_person_clips(folder, split, free[split])) for split in SPLITS}
    return found


def places(manual: Path, _: str, data_dir: Path) -> list[Path]:
    """TFDS's dataset, and the zip files that it is made from."""
    return [panoptic_folder(data_dir), *(manual / Path(url).name for url in ZIPS)]


def _free_pictures(manual: Path, split: str) -> Set[str]:
    """The file names of pictures under one of `FREE_LICENCES`, as COCO's JSON tells in the zip file of annotations."""
    member = ZipMember(manual / ANNOTATIONS.split("/")[-1], f"annotations/panoptic_{SPLITS[split]}.json")
    if not member.archive.is_file():
        raise InputError(
            f"{member.archive} is not there, which tells the licence of each picture: get it from {URL}{ANNOTATIONS}"
        )
    try:
        content = json.loads(member.read_bytes())
        free = {one["id"] for one in content["licenses"] if any(part in one["url"] for part in FREE_LICENCES)}
        return {image["file_name"] for image in content["images"] if image["license"] in free}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{member} does not tell licences as COCO's does ({error!r}): get {member.archive} again"
        ) from error


def _person_clips(folder: Path, split: str, free: Set[str] | None) -> Iterator[ArchiveClip]:
    source = _source(folder, split)
    changed = (folder / "dataset_info.json",)  # written anew whenever the dataset is
    for index in with_progress(range(len(source)), f"{split} of {folder}"):
        example = source[index]
        file_name = example["image/filename"].decode()
        if (free is None or file_name in free) and "person" in _labels(folder, example):
            name = file_name.removesuffix(".jpg")
            yield ArchiveClip(name, changed, functools.partial(encode, folder, split, index))


def encode(folder: Path, split: str, index: int) -> Iterator[Record]:
    """The one record of an example of `coco/2017_panoptic`: its picture, and where persons and what they wear are."""
    example = _source(folder, split)[index]
    name = f"{example['image/filename'].decode()} of {folder}"
    try:
        with Image.open(io.BytesIO(example["image"])) as picture:
            picture.load()
        with Image.open(io.BytesIO(example["panoptic_image"])) as areas:
            red, green, blue = np.moveaxis(np.asarray(areas.convert("RGB"), np.uint32), -1, 0)
    except DAMAGED as error:
        raise InputError(f"{name} is damaged ({error}): get the zip files again, and remove that folder") from error
    if areas.size != picture.size:
        raise InputError(
            f"{name} has {sized(picture.size)}, but its annotation has {sized(areas.size)}: expected equal sizes; "
            "get the zip files again, and remove that folder"
        )
    objects = zip(example["panoptic_objects"]["id"], _labels(folder, example), strict=True)
    numbers = red + 256 * green + 65536 * blue
    mask = np.isin(numbers, [number for number, label in objects if label in MASKED])
    # Some pictures of COCO are gray.
    kept = example["image"] if (picture.format, picture.mode) == ("JPEG", "RGB") else None
    yield {
        "image": kept or decode.encode_jpeg(picture.convert("RGB")),
        "mask": decode.encode_png(Image.fromarray(mask)),
    }


def _labels(folder: Path, example: Mapping[str, Any]) -> list[str]:
    names = _builder(folder).info.features["panoptic_objects"]["label"].names
    return [names[label] for label in example["panoptic_objects"]["label"]]


@functools.cache
def _builder(folder: Path) -> Any:
    return tfds.builder_from_directory(folder)


@functools.cache
def _source(folder: Path, split: str) -> Any:
    encoded = {"image": tfds.decode.SkipDecoding(), "panoptic_image": tfds.decode.SkipDecoding()}
    return _builder(folder).as_data_source(split, decoders=encoded)
