"""Pictures of people with alpha of which no clean foreground was published: it is estimated. Workers import this."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from data_pipelines.archives import decode
from data_pipelines.archives.clip import Record
from data_pipelines.archives.error_messages import sized
from data_pipelines.archives.members import Picture
from rvm_jax.errors import InputError
from rvm_jax.foreground import estimate_foreground


def composite_records(picture: Picture, alpha: Picture, *, short_side: int) -> Iterator[Record]:
    """The one record of a picture and its alpha, shrunk where the shorter side is longer than `short_side`."""
    color, gray = decode.read_foreground(picture), decode.read_alpha(alpha)
    if color.size != gray.size:
        raise InputError(
            f"{picture} has {sized(color.size)}, but its alpha {alpha} has {sized(gray.size)}: expected equal sizes; "
            "get both again from the same release"
        )
    color, gray = (decode.shrink(image, short_side=short_side) for image in (color, gray))
    image, matte = (np.asarray(stored, np.float32) / np.float32(255) for stored in (color, gray))
    foreground = estimate_foreground(image, matte[..., None])
    pixels = Image.fromarray(np.round(foreground * 255).astype(np.uint8))
    yield {"foreground": decode.encode_jpeg(pixels), "alpha": decode.encode_png(gray)}
