"""Pictures found by name, and the record of a picture with its mask. Worker processes import this: nothing slow."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipelines.archives import decode
from data_pipelines.archives.clip import Record
from data_pipelines.archives.error_messages import first_errors, first_few, sized
from data_pipelines.archives.names import name_error
from rvm_jax.errors import InputError
from rvm_jax.video.picture_files import SUFFIXES


def by_stem(folder: Path, errors: list[str]) -> dict[str, list[Path]]:
    """The pictures of a folder by name without extension, in order; none if there is no such folder.

    Those with names that cannot be used are left out, and told of in `errors`.
    """
    stems: dict[str, list[Path]] = {}
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    # Copies made on a Mac hold a hidden "._x.png" beside every x.png.
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    errors += first_errors(map(name_error, pictures))
    for path in pictures:
        if name_error(path) is None:
            stems.setdefault(path.stem, []).append(path)
    return stems


def paired(pictures: Path, alphas: Path, errors: list[str]) -> dict[str, tuple[Path, Path]]:
    """The pictures of a folder and those of the same name in another, whatever the extensions, by name, in order.

    What has no partner or two is left out, and told of in `errors`.
    """
    both = by_stem(pictures, errors), by_stem(alphas, errors)
    for these, others, folder in ((*both, alphas), (*both[::-1], pictures)):
        lonely = [str(these[stem][0]) for stem in sorted(these.keys() - others.keys())]
        if lonely:
            errors.append(f"{len(lonely)} files have no partner in {folder}: {first_few(lonely)}")
    pairs = {}
    for stem in (stem for stem in both[0] if stem in both[1]):
        several = next((paths for paths in (both[0][stem], both[1][stem]) if len(paths) > 1), None)
        if several:
            errors.append(f"{stem} could be {' or '.join(map(str, several))}: remove what is not meant")
        else:
            pairs[stem] = (both[0][stem][0], both[1][stem][0])
    return pairs


def mask_record(path: Path, mask: NDArray[np.bool_], *, source: Path, short_side: int) -> Record:
    """The record of a picture with its mask, bool [H, W], which was read from `source`.

    Both are shrunk where the shorter side is longer than `short_side`; a JPEG that stays as large keeps its own bytes.
    Masks were drawn on the pixels as they are stored, so an orientation tag is ignored.
    """
    picture = decode.read_picture(path, upright=False)
    height, width = mask.shape
    if (width, height) != picture.size:
        raise InputError(
            f"{path} has {sized(picture.size)}, but its mask in {source} has {sized((width, height))}: "
            "expected equal sizes; get both again from the same release"
        )
    small = decode.shrink(picture, short_side=short_side)
    kept = decode.jpeg_bytes(path, upright=False) if small.size == picture.size else None
    return {"image": kept or decode.encode_jpeg(small), "mask": encode_mask(mask, short_side=short_side)}


def encode_mask(mask: NDArray[np.bool_], *, short_side: int) -> bytes:
    """A mask, bool [H, W], as gray PNG of 0 and 255; where it is shrunk, what is covered by half counts as covered."""
    shrunk = decode.shrink(Image.fromarray(mask).convert("L"), short_side=short_side)
    return decode.encode_png(shrunk.point([0] * 128 + [255] * 128))
