"""Decoding of pictures to matte: more kinds and more than 8 bits, colours of any profile as sRGB, animations.

Pillow reads what it can; FFmpeg reads what has more than 8 bits a colour.
"""

import contextlib
import importlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageCms, features

from rvm_jax.errors import InputError
from rvm_jax.video import picture_files
from rvm_jax.video.orientation import upright_array
from rvm_jax.video.picture_files import MOST_PIXELS

MORE = {
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".avif": ("AVIF",),
    ".heic": ("HEIF",),
    ".heif": ("HEIF",),
    ".exr": (),
}
"""What is read here beside the kinds of `picture_files`, which data sets have, and what Pillow calls it."""

SUFFIXES = picture_files.SUFFIXES | MORE.keys()
ANIMATED = ("AVIF", "PNG", "WEBP")  # other pictures of several frames are previews, or pages
USUAL_MILLISECONDS = 100  # of a frame that is to be shown for no time, as browsers do it

DAMAGED = (*picture_files.DAMAGED, av.FFmpegError, struct.error, ArithmeticError, LookupError, RuntimeError, TypeError)
"""What decoders make of bad files of all these kinds."""

WHITE = 255
"""What is seen through a picture, as on a page."""


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def is_animation(path: Path) -> bool:
    """Whether it is a picture of several frames. One that cannot be opened is told when it is read."""
    if not is_picture(path) or path.suffix.lower() == ".exr":
        return False
    with contextlib.suppress(InputError, *DAMAGED), _opened(path) as image:
        return image.format in ANIMATED and getattr(image, "n_frames", 1) > 1
    return False


def read_rgb(path: Path) -> np.ndarray:
    """A picture, upright, in sRGB: uint8 [H, W, 3], or uint16 if it has more than 8 bits."""
    if path.suffix.lower() == ".exr":
        with _told(path):
            return _from_light(_decoded(path, "exr"))
    with _told(path), _opened(path) as image:
        stored: Any = image
        if image.mode == "F":
            raise InputError(f"{path} has pixels of floating point, which are read from EXR alone: convert it")
        if image.mode.startswith("I"):
            gray = np.asarray(image).clip(0, 65535).astype(np.uint16)
            return upright_array(gray[..., None].repeat(3, -1), image)
        deep = image.format in ("PNG", "TIFF") and ";16" in str(stored.tile)
        if not deep or _profile(image):  # colours of a profile are converted with 8 bits
            return _flat(_to_srgb(picture_files.read_picture(path, formats=_formats(path))))
        return _flat(upright_array(_decoded(path, str(image.format).lower()), image))


def frames(path: Path) -> Iterator[tuple[np.ndarray, int, int]]:
    """Those of an animation, uint8 [H, W, 3], each with its time and duration in milliseconds."""
    time = 0
    with _told(path), _opened(path) as image:
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            image.load()
            duration = round(image.info.get("duration", 0)) or USUAL_MILLISECONDS
            yield _flat(image.convert("RGBA")), time, duration
            time += duration


def count(path: Path) -> int:
    with _told(path), _opened(path) as image:
        return int(image.n_frames)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except DAMAGED as error:
        raise picture_files.unreadable(path, error) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with picture_files.open_picture(path, _formats(path)) as image:
        picture_files.check_size(image, path)
        yield image


def _formats(path: Path) -> tuple[str, ...]:
    more = MORE.get(path.suffix.lower(), ())
    if more == ("AVIF",) and not features.check("avif"):
        raise InputError(f"{path} cannot be read by this Pillow, which has no AVIF: pip install --upgrade pillow")
    if more == ("HEIF",):
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise InputError(f"{path} needs a plug-in of Pillow to be read: pip install pillow-heif") from None
    return (*picture_files.FORMATS, *more)


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The one that its colours are converted from; None if they are of sRGB, or it is damaged."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError):
        if stored := image.info.get("icc_profile"):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(stored))
            return None if "srgb" in ImageCms.getProfileDescription(profile).lower() else profile
    return None


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = _profile(image)
    if profile is None:
        return image
    if image.mode not in ("L", "RGB", "RGBA", "CMYK", "LAB"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    with contextlib.suppress(ImageCms.PyCMSError):  # one of another kind of colours than the picture's
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
        return converted or image
    return image


def _flat(picture: Image.Image | np.ndarray) -> np.ndarray:
    """RGB, with white where it is transparent."""
    if isinstance(picture, np.ndarray):
        if picture.shape[-1] == 3:
            return picture
        most = np.iinfo(picture.dtype).max
        alpha = picture[..., 3:] / np.float32(most)
        return np.round(picture[..., :3] * alpha + most * (1 - alpha)).astype(picture.dtype)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    picture = picture.convert("RGBA")
    behind = Image.new("RGBA", picture.size, (WHITE, WHITE, WHITE, 255))
    return np.asarray(Image.alpha_composite(behind, picture).convert("RGB"))


def _decoded(path: Path, codec: str) -> np.ndarray:
    """[H, W, 3 or 4] by FFmpeg: floats of EXR as they are, else uint16."""
    context: Any = av.CodecContext.create(codec, "r")
    context.options = {"max_pixels": str(MOST_PIXELS)}
    frame = next(iter([*context.decode(av.Packet(path.read_bytes())), *context.decode(None)]), None)
    if frame is None:
        raise ValueError("it holds no picture")
    if codec == "exr":
        return _floats(frame)
    transparent = len(frame.format.components) in (2, 4)
    return frame.to_ndarray(format="rgba64le" if transparent else "rgb48le")


def _floats(frame: av.VideoFrame) -> np.ndarray:
    """float32 [H, W, 3 or 4] of planes in the order green, blue, red, alpha, or of gray; PyAV knows no half floats."""
    dtype = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
    planes = [
        np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : plane.width].astype(np.float32)
        for plane in frame.planes
    ]
    green, blue, red, *alpha = planes if len(planes) > 1 else planes * 3
    return np.stack([red, green, blue, *alpha], -1)


def _from_light(light: np.ndarray) -> np.ndarray:
    """Linear floats, colours multiplied by alpha if there is one: uint16 [H, W, 3]."""
    from rvm_jax.video.hdr import light_to_srgb  # by JAX, which takes a second to import

    if light.shape[-1] == 4:
        light = light[..., :3] + (1 - light[..., 3:])
    return np.round(np.asarray(light_to_srgb(np.nan_to_num(light))) * 65535).astype(np.uint16)
