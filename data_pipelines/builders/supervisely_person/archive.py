"""Supervisely Person: prepared pictures and masks, or the annotations as Supervisely exports them."""

import base64
import binascii
import collections
import functools
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_pipelines.archives import decode
from data_pipelines.archives.clip import ArchiveClip, Found, Record, split_clips
from data_pipelines.archives.error_messages import first_few, sized
from data_pipelines.archives.stills import by_stem, mask_record, paired
from rvm_jax.errors import InputError
from rvm_jax.host.progress import with_progress

FOLDER = "supervisely_person"
SHORT_SIDE = 1080
PUBLISHED = 5711
VALIDATION_EVERY = 50
CLASSES = {"person", "person_bmp", "person_poly"}
"""The release has a third class, "neutral", which is not of persons."""


def find(manual: Path, *_: object) -> Found:
    """The pictures, in the order of their names; the 1st, 51st, 101st and so on are for validation."""
    found = Found()
    folder = manual / FOLDER
    if (folder / "img").is_dir() and (folder / "seg").is_dir():
        clips = _prepared(folder, found)
    else:
        clips = _exported(folder, found)
    if len(clips) < 2 and not found.errors:
        found.errors.append(
            f"{folder} holds {len(clips)} pictures of persons: expected img/ and seg/ of the prepared set, or img/ and "
            "ann/ in every dataset of the export; ask Supervisely for its Person dataset (https://supervisely.com)"
        )
    if len(clips) != PUBLISHED:
        found.warnings.append(f"{folder} holds {len(clips)} pictures, but {PUBLISHED} were published")
    clips.sort(key=lambda clip: clip.name)
    found.splits = split_clips(clips, VALIDATION_EVERY)
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of pictures and masks or annotations."""
    return [manual / FOLDER]


def _prepared(folder: Path, found: Found) -> list[ArchiveClip]:
    """Pictures in img/ and masks of the same names in seg/, whatever the extensions."""
    pairs = paired(folder / "img", folder / "seg", found.errors)
    return [ArchiveClip(stem, files, functools.partial(encode_prepared, *files)) for stem, files in pairs.items()]


def _exported(folder: Path, found: Found) -> list[ArchiveClip]:
    """Pictures in img/ and, for each img/NAME, ann/NAME.json, in any number of datasets."""
    clips: list[ArchiveClip] = []
    lonely: list[str] = []
    ignored: collections.Counter[str] = collections.Counter()
    for dataset in sorted(path.parent for path in folder.rglob("ann") if path.is_dir()):
        pictures = [path for paths in by_stem(dataset / "img", found.errors).values() for path in paths]
        annotations = {path.name: path for path in (dataset / "ann").glob("*.json") if not path.name.startswith(".")}
        for picture in with_progress(pictures, dataset):
            annotation = annotations.pop(f"{picture.name}.json", None)
            if annotation is None:
                lonely.append(str(picture))
                continue
            try:
                classes = {str(item["classTitle"]) for item in _load(annotation)["objects"]}
            except InputError as error:
                found.errors.append(str(error))
                continue
            except (KeyError, TypeError) as error:
                found.errors.append(str(_unlike(annotation, error)))
                continue
            ignored.update(classes - CLASSES)
            name = (dataset.relative_to(folder) / picture.name).as_posix()
            clips.append(
                ArchiveClip(name, (picture, annotation), functools.partial(encode_exported, picture, annotation))
            )
        lonely += map(str, annotations.values())
    if lonely:
        found.errors.append(
            f"{len(lonely)} files have no partner: expected ann/NAME.json beside every img/NAME: {first_few(lonely)}"
        )
    for name, count in ignored.items():
        found.warnings.append(f"what is of class {name!r} in {count} annotations does not go into the masks")
    return clips


def encode_prepared(picture: Path, mask: Path) -> Iterator[Record]:
    """The one record of a picture. Masks come as JPEG too, so they are cut at half."""
    values = np.asarray(decode.read_alpha(mask, upright=False))
    if 0 < values.max() < 128:
        raise InputError(f"{mask} reaches {values.max()} at most: expected 0 outside of persons and 255 inside")
    yield mask_record(picture, values >= 128, source=mask, short_side=SHORT_SIDE)


def encode_exported(picture: Path, annotation: Path) -> Iterator[Record]:
    """The one record of a picture whose persons are drawn from an annotation."""
    content = _load(annotation)
    try:
        mask = np.zeros((content["size"]["height"], content["size"]["width"]), bool)
        for item in content["objects"]:
            if item["classTitle"] not in CLASSES:
                continue
            if item.get("bitmap"):
                _add_bitmap(mask, item["bitmap"], annotation)
            else:
                _add_polygon(mask, item["points"])
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unlike(annotation, error) from error
    yield mask_record(picture, mask, source=annotation, short_side=SHORT_SIDE)


def _load(annotation: Path) -> Any:
    try:
        return json.loads(annotation.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{annotation} cannot be read as JSON ({error}): export the project again") from error


def _unlike(annotation: Path, error: Exception) -> InputError:
    return InputError(
        f"{annotation} is not in the format of Supervisely's annotations ({error!r}): export the project again as JSON"
    )


def _add_bitmap(mask: NDArray[np.bool_], bitmap: Mapping[str, Any], annotation: Path) -> None:
    """Bitmaps are PNGs, deflated and in base64; they have an alpha channel, a transparent colour, or are gray."""
    try:
        with Image.open(io.BytesIO(zlib.decompress(base64.b64decode(bitmap["data"])))) as image:
            part = np.asarray(
                image.convert("RGBA").getchannel("A") if image.has_transparency_data else image.convert("L")
            )
    except (binascii.Error, zlib.error, OSError, SyntaxError) as error:
        raise InputError(f"{annotation} holds a bitmap that is damaged ({error}): export the project again") from error
    left, top = bitmap["origin"]
    height, width = part.shape
    if min(left, top) < 0 or left + width > mask.shape[1] or top + height > mask.shape[0]:
        raise InputError(
            f"{annotation} holds a bitmap of {sized((width, height))} at {left}, {top}, which is not within its "
            f"picture of {sized(mask.shape[::-1])}: export the project again"
        )
    mask[top : top + height, left : left + width] |= part > 0


def _add_polygon(mask: NDArray[np.bool_], points: Mapping[str, Any]) -> None:
    """The holes of a polygon are its own: what lies there of others stays."""
    image = Image.new("1", mask.shape[::-1])
    draw = ImageDraw.Draw(image)
    for polygon, inside in ((points["exterior"], 1), *((hole, 0) for hole in points["interior"])):
        draw.polygon([(x, y) for x, y in polygon], fill=inside, outline=inside)
    mask |= np.asarray(image)
