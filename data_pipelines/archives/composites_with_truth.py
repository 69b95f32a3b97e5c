"""Test sets that owners ship as composites with their alphas: never trained on, so no dataset is made of them."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_pipelines.archives import decode
from data_pipelines.archives.clip import ArchiveClip, Record
from data_pipelines.archives.error_messages import sized
from data_pipelines.archives.stills import paired
from rvm_jax.errors import InputError
from rvm_jax.video.picture_files import natural_sort_key

Frames = Sequence[tuple[Path, Path | None]]
"""Composites, each with its alpha where that is known."""


def clip(name: str, frames: Frames) -> ArchiveClip:
    """A clip of a test set, whose files nobody looks at, for it is written and not prepared."""
    return ArchiveClip(name, (), functools.partial(encode, tuple(frames)))


def frames_in(composites: Path, alphas: Path, errors: list[str]) -> Frames:
    """The frames of a clip, 2.png before 10.png; what is missing is told in `errors`."""
    before = len(errors)
    pairs = paired(composites, alphas, errors)
    if not pairs and len(errors) == before:
        errors.append(f"{composites} has no frames: get it again")
    return sorted(pairs.values(), key=lambda pair: natural_sort_key(pair[0]))


def encode(frames: Frames) -> Iterator[Record]:
    """The records of a clip: `com`, whose bytes stay as they are, and `pha`, which is gray PNG whatever it was."""
    sizes = None
    for composite, alpha in frames:
        pictures = {composite: decode.read_picture(composite)}
        record = {"com": composite.read_bytes()}
        if alpha is not None:
            pictures[alpha] = decode.read_alpha(alpha)
            record["pha"] = decode.encode_png(pictures[alpha])
        sizes = sizes or pictures[composite].size
        for path, picture in pictures.items():
            if picture.size != sizes:
                raise InputError(f"{path} has {sized(picture.size)} where {sized(sizes)} are expected: get it again")
        yield record
