"""Opening of anything that holds frames: a video file, a stream or a camera, a folder of pictures, or one picture."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import demux, picture_files
from rvm_jax.video.frames import WHOLE, Colors, Frame, Item, Part, Source, at_one_size, frame_name, peek
from rvm_jax.video.streaming.cameras import AS_IT_IS, CameraMode

PICTURES_A_SECOND = Fraction(30)


@contextlib.contextmanager
def open_source(
    name: str, part: Part = WHOLE, *, rate: Fraction = PICTURES_A_SECOND, camera: CameraMode = AS_IT_IS
) -> Iterator[Source]:
    """Open anything that holds frames. `rate` is for folders of pictures, which have none of their own."""
    if demux.is_live(name):
        with demux.open_video(name, part, camera) as source:
            yield source
        return
    try:
        path = Path(name).expanduser()
        paths = _pictures_in(path) if path.is_dir() else [path] if picture_files.is_picture(path) else []
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # also of names that cannot be
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not exists:
        raise InputError(
            f"{name} does not exist: expected a video, a folder of pictures, a picture, a URL, webcam, or -"
        )
    if paths:
        yield _pictures(path, paths, part, rate)
    else:
        with demux.open_video(str(path), part, camera) as source:
            yield source


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
            yield Frame(_read_picture(path), number, 1, path.stem if named else frame_name(number))

    _, (height, width), items = peek(at_one_size(origin, frames(), part.size))
    return Source(str(origin), height, width, 1 / rate, rate, len(chosen), items, Colors(), Fraction(1), ())


def _pictures_in(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if picture_files.is_picture(path) and not path.name.startswith(".")]
    if not found:
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in picture_files.SUFFIXES))
        raise InputError(f"{folder} holds no pictures: expected files of these kinds: {kinds}")
    return sorted(found, key=picture_files.natural_sort_key)


def _read_picture(path: Path) -> np.ndarray:
    image = picture_files.read_picture(path)
    if image.mode.startswith("I"):  # gray of 16 bits, which Pillow would clip
        image = Image.fromarray((np.asarray(image, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def _ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
