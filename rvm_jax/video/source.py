"""Opening anything that holds frames: a video file, a stream or a camera, a folder of pictures, or one picture."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.video import demux, stills
from rvm_jax.video.frames import WHOLE, Part, Source


@contextlib.contextmanager
def open_source(name: str, part: Part = WHOLE, *, rate: Fraction = stills.PICTURES_A_SECOND) -> Iterator[Source]:
    """Open anything that holds frames. `rate` is for folders of pictures, which have none of their own."""
    if demux.is_live(name):
        with demux.open_video(name, part) as source:
            yield source
        return
    try:
        path = Path(name).expanduser()
        pictures = stills.pictures_in(path) if path.is_dir() else [path] if stills.is_picture(path) else []
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # also of names that cannot be
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not exists:
        raise InputError(f"{name} does not exist: expected a video, a folder of pictures, a picture, a URL, or webcam")
    if pictures:
        yield stills.open_pictures(path, pictures, part, rate)
    else:
        with demux.open_video(str(path), part) as source:
            yield source
