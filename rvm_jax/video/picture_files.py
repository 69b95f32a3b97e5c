"""Reading of picture files with Pillow: their kinds, their limits, and their orientation."""

import io
import re
import threading
import warnings
from pathlib import Path
from typing import Any

from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video.orientation import upright_picture

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
"""What Pillow may take a file for, whatever its name: for EPS it would run Ghostscript. The MPO of phones is a JPEG."""

DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow makes of bad files

MOST_PIXELS = 2 * 89_478_485
"""How large a picture may be: where Pillow raises an error. From half of that on it would print a warning."""

PNG_EFFORT = 3  # in writing: a third of the time that Pillow's usual 6 takes, for a few per cent


warnings.filterwarnings("ignore", module=r"PIL\.")  # of damage in metadata: what cannot be read is told as an error

_pillow_limit = threading.Lock()


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def natural_sort_key(path: Path) -> list[Any]:
    """What to sort files by, so that 2.png comes before 10.png."""
    return [int(text) if text.isdecimal() else text for text in re.split(r"(\d+)", path.name)]


def open_picture(file: Path | io.BytesIO, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open a picture with Pillow, without its warning about large ones: `MOST_PIXELS` is the limit here."""
    with _pillow_limit:  # threads that swap it at once would leave it swapped
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def read_picture(
    path: Path, *, upright: bool = True, formats: tuple[str, ...] = FORMATS, content: bytes | None = None
) -> Image.Image:
    """A picture in the mode it is stored in, decoded, and turned as its orientation tag asks for if `upright`.

    With `content`, that is what is decoded, and the path is but what errors call it.
    """
    try:
        with open_picture(path if content is None else io.BytesIO(content), formats) as stored:
            check_size(stored, path)
            stored.load()
            return upright_picture(stored) if upright else stored
    except InputError:
        raise
    except DAMAGED as error:
        raise unreadable(path, error) from error


def check_size(image: Image.Image, path: Path) -> None:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        most = f"{MOST_PIXELS / 1e6:.1f}"
        raise InputError(f"{path} is too large: {pixels / 1e6:.1f} megapixels, at most {most}; shrink it")


def unreadable(path: Path, error: Exception) -> InputError:
    """What is told of a picture that made such an error."""
    reason = getattr(error, "strerror", None) or f"{error}\n".splitlines()[0].replace(f" image file '{path}'", " it")
    return InputError(f"{path} cannot be read as a picture, or it is damaged: {reason}")
