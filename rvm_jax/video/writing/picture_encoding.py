"""Encoding of single frames: PNG of 8 bits by Pillow and of 16 by a few lines here, TIFF and EXR by FFmpeg."""

import functools
import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from rvm_jax.video.frames import Source
from rvm_jax.video.picture_files import PNG_EFFORT

SUFFIXES = (".png", ".tif", ".tiff", ".exr")

PACKED = {
    "uint8": {1: "gray", 3: "rgb24", 4: "rgba"},
    "uint16": {1: "gray16le", 3: "rgb48le", 4: "rgba64le"},
}
"""FFmpeg's names of what is written, by its type and channels."""

PNG_HEADER = 33
"""How long what comes first in a PNG is, its signature and size; other chunks follow."""

UP = 2
"""A row of a PNG as the difference to that above it, which is what compresses well and fast."""


def save(pixels: np.ndarray, path: Path, suffix: str, source: Source) -> None:
    """Write uint8 or uint16 [H, W, C], C = 1 (gray), 3 (RGB) or 4 (RGB and alpha, straight), as `suffix` says."""
    content = encoded(pixels, suffix)
    if suffix == ".png":
        content = content[:PNG_HEADER] + b"".join(_chunks(source)) + content[PNG_HEADER:]
    path.write_bytes(content)


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """The file of such a picture."""
    if suffix == ".exr":
        return _exr(pixels)
    if suffix != ".png":
        return _tiff(pixels)
    if pixels.dtype == np.uint16:
        return _png(pixels)
    file = io.BytesIO()
    as_image(pixels).save(file, "PNG", compress_level=PNG_EFFORT)
    return file.getvalue()


def as_image(pixels: np.ndarray) -> Image.Image:
    """A picture of Pillow's from uint8 [H, W, C]."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _chunks(source: Source) -> list[bytes]:
    """What else a PNG tells: how wide a pixel is, and that colours are of HDR."""
    chunks = []
    if source.colors.hdr:
        chunks.append(chunk(b"cICP", bytes([source.colors.primaries, source.colors.transfer, 0, 1])))
    if source.pixel_aspect != 1:  # pixels a unit across and down; narrow ones are many
        across, down = source.pixel_aspect.denominator, source.pixel_aspect.numerator
        chunks.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 0)))
    return chunks


def _png(pixels: np.ndarray) -> bytes:
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    content = chunk(b"IDAT", zlib.compress(filtered.tobytes(), PNG_EFFORT))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG as it is stored."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _tiff(pixels: np.ndarray) -> bytes:
    return _encoded("tiff", PACKED[pixels.dtype.name][pixels.shape[-1]], pixels, {"compression_algo": "deflate"})


def _exr(pixels: np.ndarray) -> bytes:
    """Linear light in half floats, colours multiplied by alpha, as programs for compositing want it; gray as it is."""
    most = np.iinfo(pixels.dtype).max
    options = {"format": "half", "compression": "zip16"}
    if pixels.shape[-1] == 1:
        return _encoded("exr", "grayf32le", pixels / np.float32(most), options)
    light = _light(most)[pixels[..., :3]]
    if pixels.shape[-1] == 3:
        return _encoded("exr", "gbrpf32le", light, options)
    alpha = pixels[..., 3:] / np.float32(most)
    return _encoded("exr", "gbrapf32le", np.concatenate([light * alpha, alpha], -1), options)


@functools.cache
def _light(most: int) -> np.ndarray:
    """The light of each code of sRGB."""
    from rvm_jax.video.hdr import srgb_to_light  # by JAX, which takes a second to import

    return np.asarray(srgb_to_light(np.linspace(0, 1, most + 1, dtype=np.float32)))


def _encoded(codec: str, form: str, pixels: np.ndarray, options: dict[str, str]) -> bytes:
    context: Any = av.CodecContext.create(codec, "w")
    context.height, context.width = pixels.shape[:2]
    context.pix_fmt, context.time_base, context.options = form, Fraction(1), options
    pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    frame = av.VideoFrame.from_ndarray(pixels, form)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
