"""P3M-10k as its owners ship it: portraits and their alphas; faces are blurred, but for P3M-500-NP."""

import functools
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip, Found, split_clips
from data_pipelines.archives.composites import composite_records
from data_pipelines.archives.stills import paired
from rvm_jax.host.progress import with_progress

FOLDER = "P3M-10k"
PAGE = "https://github.com/ViTAE-Transformer/P3M-Net"
TRAIN = ("train/blurred_image", "train/mask", 9421)
TESTS = {
    "test_p3m_500_p": ("validation/P3M-500-P/blurred_image", "validation/P3M-500-P/mask", 500),
    "test_p3m_500_np": ("validation/P3M-500-NP/original_image", "validation/P3M-500-NP/mask", 500),
}
"""Where portraits and alphas are, and how many were published."""
SHORT_SIDE = 1080
VALIDATION_EVERY = 100


def find(manual: Path, *_: object) -> Found:
    """The portraits; of each 100 for training the first is for validation, and the owners' two sets are for tests."""
    found = Found()
    train = _clips(manual, TRAIN, found)
    tests = {split: _clips(manual, where, found) for split, where in TESTS.items()}
    found.splits = {**split_clips(train, VALIDATION_EVERY), **tests}
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of all of it."""
    return [manual / FOLDER]


def pairs(manual: Path, where: tuple[str, str, int], found: Found) -> dict[str, tuple[Path, Path]]:
    """The portraits and alphas of a part by name; what is wrong is added to `found`."""
    pictures, alphas, published = manual / FOLDER / where[0], manual / FOLDER / where[1], where[2]
    if not pictures.is_dir() or not alphas.is_dir():
        absent = alphas if pictures.is_dir() else pictures
        found.errors.append(f"{absent} is not there: ask for P3M-10k at {PAGE}, and extract it to {manual}")
        return {}
    both = paired(pictures, alphas, found.errors)
    if len(both) != published:
        found.warnings.append(f"{pictures} has {len(both)} portraits with alpha, but {published} were published")
    return both


def _clips(manual: Path, where: tuple[str, str, int], found: Found) -> list[ArchiveClip]:
    both = pairs(manual, where, found)
    return [
        ArchiveClip(name, pair, functools.partial(composite_records, *pair, short_side=SHORT_SIDE))
        for name, pair in with_progress(both.items(), manual / FOLDER)
    ]
