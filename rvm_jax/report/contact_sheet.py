"""Contact sheets: layers of clips beside each other, as one picture and as one film.

Layers are the pictures that belong together, by name: uint8 [B, T, h, w, 3] each, all of one shape.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from rvm_jax.host.files import replacing

Layers = Mapping[str, np.ndarray]
COLUMNS = 6
FRAMES_PER_SECOND = 12
GAP = 4
THUMBNAIL = 256


def thumbnails(pictures: np.ndarray) -> np.ndarray:
    """uint8 [..., H, W, 3] as uint8 [..., h, w, 3] whose longer side is `THUMBNAIL` pixels, or what it was if less."""
    *many, height, width, _ = pictures.shape
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(Image.fromarray(picture).resize(size)) for picture in pictures.reshape(-1, height, width, 3)]
    return np.stack(small).reshape(*many, size[1], size[0], 3)


def grid(shown: Layers) -> np.ndarray:
    """All layers of all clips, one below the other, each a row of some frames in order: uint8 [H, W, 3]."""
    clips, frames = next(iter(shown.values())).shape[:2]
    moments = np.unique(np.linspace(0, frames - 1, COLUMNS).round().astype(int))
    rows = [_beside([layer[clip, moment] for moment in moments]) for clip in range(clips) for layer in shown.values()]
    return np.concatenate(rows)


def film(shown: Layers) -> np.ndarray:
    """A frame a moment, with a row for each clip and its layers side by side: uint8 [T, H, W, 3]."""
    clips, frames = next(iter(shown.values())).shape[:2]
    return np.stack(
        [
            np.concatenate([_beside([layer[clip, moment] for layer in shown.values()]) for clip in range(clips)])
            for moment in range(frames)
        ]
    )


def write_grid(shown: Layers, path: Path, *, overwrite: bool = False) -> None:
    """Write a PNG."""
    with replacing(path, overwrite=overwrite) as partial:
        Image.fromarray(grid(shown)).save(partial, "PNG")


def write_film(shown: Layers, path: Path, *, overwrite: bool = False) -> None:
    """Write an H.264 mp4."""
    frames = film(shown)
    height, width = (side - side % 2 for side in frames.shape[1:3])
    with replacing(path, overwrite=overwrite) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND), options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame[:height, :width].copy(), "rgb24")))
        container.mux(stream.encode())


def _beside(pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.pad(picture, ((0, GAP), (0, GAP), (0, 0))) for picture in pictures], 1)
