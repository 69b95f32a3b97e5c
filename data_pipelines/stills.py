"""Pictures found by name, and the record of a picture with its mask. Worker processes import this: nothing slow."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipelines import decode
from data_pipelines.layout import Record
from rvm_jax.errors import InputError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def by_stem(folder: Path) -> dict[str, list[Path]]:
    """The pictures of a folder by name without extension, in order; none if there is no such folder."""
    stems: dict[str, list[Path]] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            # Copies made on a Mac hold a hidden "._x.png" beside every x.png.
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                stems.setdefault(path.stem, []).append(path)
    return stems


def first_few(names: Collection[str], limit: int = 5) -> str:
    """The names for a message of one line: "a, b, c", or "a, b, c, d, e and 7 more"."""
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def sized(size: tuple[int, int]) -> str:
    """Width and height for a message."""
    return f"{size[0]}x{size[1]} pixels"


def mask_record(path: Path, mask: NDArray[np.bool_], *, source: Path, short_side: int) -> Record:
    """The record of a picture with its mask, bool [H, W], which was read from `source`.

    Both are shrunk where the shorter side is longer than `short_side`; a JPEG that stays as large keeps its own bytes.
    """
    picture = decode.read_picture(path)
    height, width = mask.shape
    if (width, height) != picture.size:
        raise InputError(
            f"{path} has {sized(picture.size)}, but its mask in {source} has {sized((width, height))}: "
            "expected equal sizes; get both again from the same release"
        )
    small = decode.shrink(picture, short_side=short_side)
    kept = decode.jpeg_bytes(path) if small.size == picture.size else None
    return {"image": kept or decode.encode_jpeg(small), "mask": encode_mask(mask, short_side=short_side)}


def encode_mask(mask: NDArray[np.bool_], *, short_side: int) -> bytes:
    """A mask, bool [H, W], as gray PNG of 0 and 255; where it is shrunk, what is covered by half counts as covered."""
    shrunk = decode.shrink(Image.fromarray(mask).convert("L"), short_side=short_side)
    return decode.encode_png(shrunk.point([0] * 128 + [255] * 128))
