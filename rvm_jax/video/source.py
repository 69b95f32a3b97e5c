"""Opening of anything that holds frames: a video file, a stream or a camera, a folder of pictures, or one picture."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.video import demux, picture_files
from rvm_jax.video.frames import WHOLE, Colors, Frame, Item, Part, Source, at_one_size, frame_name, peek
from rvm_jax.video.reading import picture_decoding
from rvm_jax.video.streaming import cameras
from rvm_jax.video.streaming.cameras import AS_IT_IS, CameraMode

PICTURES_A_SECOND = Fraction(30)


@contextlib.contextmanager
def open_source(
    name: str,
    part: Part = WHOLE,
    *,
    rate: Fraction = PICTURES_A_SECOND,
    keep_hdr: bool = False,
    camera: CameraMode = AS_IT_IS,
) -> Iterator[Source]:
    """Open anything that holds frames. `rate` is for folders of pictures, which have none of their own.

    Frames of HDR are tone-mapped, unless it is to be kept.
    """
    if demux.is_live(name):
        with demux.open_video(name, part, keep_hdr=keep_hdr, camera=camera) as source:
            yield source
        return
    check(name)
    path = Path(name).expanduser()
    try:
        paths = _pictures_in(path) if path.is_dir() else [path] if picture_decoding.is_picture(path) else []
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
    if paths == [path] and picture_decoding.is_animation(path):
        yield _animation(path, part)
    elif paths:
        yield _pictures(path, paths, part, rate)
    else:
        with demux.open_video(str(path), part, keep_hdr=keep_hdr, camera=camera) as source:
            yield source


def check(name: str, expected: str = "a video, a folder of pictures, a picture, a URL, webcam, or -") -> None:
    """Refuse the name of nothing."""
    if demux.is_live(name):
        cameras.check(name)
        return
    try:
        exists = Path(name).expanduser().exists()
    except (OSError, RuntimeError) as error:  # of names that cannot be
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not exists:
        raise InputError(f"{name} does not exist: expected {expected}")


def _pictures(origin: Path, paths: list[Path], part: Part, rate: Fraction) -> Source:
    """Pictures, shown one after the other."""
    end = len(paths) if part.end is None else _ceil(part.end * rate)
    chosen = paths[_ceil(part.start * rate) : end]
    if not chosen:
        seconds = float(len(paths) / rate)
        raise InputError(f"{origin} lasts {seconds:g} s at {float(rate):g} fps: nothing is left by --start and --end")
    named = len({path.stem for path in chosen}) == len(chosen)

    def frames() -> Iterator[Item]:
        for number, path in enumerate(chosen):
            yield Frame(picture_decoding.read_rgb(path), number, 1, path.stem if named else frame_name(number))

    def spread(count: int) -> Iterator[np.ndarray]:
        return (
            picture_decoding.read_rgb(chosen[(2 * number + 1) * len(chosen) // (2 * count)]) for number in range(count)
        )

    return dataclasses.replace(_source(origin, frames(), part, 1 / rate, rate, len(chosen)), spread=spread)


def _animation(path: Path, part: Part) -> Source:
    """A picture that moves."""
    millisecond = Fraction(1, 1000)
    first, last = part.start / millisecond, None if part.end is None else part.end / millisecond

    def frames() -> Iterator[Item]:
        zero: int | None = None
        for pixels, time, duration in picture_decoding.frames(path):
            if last is not None and time >= last:
                return
            if time >= first:
                zero = time if zero is None else zero
                number = next(numbers)
                yield Frame(pixels, time - zero, duration, frame_name(number))

    numbers = itertools.count()
    items = frames()
    try:
        frame, _, items = peek(items)
    except StopIteration:
        raise InputError(f"{path} has no frame left by --start and --end") from None
    whole = not part.start and part.end is None
    length = picture_decoding.count(path) if whole else None
    return _source(path, items, part, millisecond, Fraction(1000, frame.duration), length)


def _source(
    origin: Path, frames: Iterator[Item], part: Part, time_base: Fraction, rate: Fraction, length: int | None
) -> Source:
    first, (height, width), items = peek(at_one_size(origin, frames, part.size))
    return Source(
        name=str(origin),
        height=height,
        width=width,
        time_base=time_base,
        rate=rate,
        length=length,
        items=items,
        colors=Colors(),
        pixel_aspect=Fraction(1),
        sounds=(),
        deep=first.pixels.dtype == np.uint16,
    )


def _pictures_in(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if picture_decoding.is_picture(path) and not path.name.startswith(".")]
    if not found:
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in picture_decoding.SUFFIXES))
        raise InputError(f"{folder} holds no pictures: expected files of these kinds: {kinds}")
    return sorted(found, key=picture_files.natural_sort_key)


def _ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
