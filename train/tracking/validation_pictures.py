"""What a validation shows: the network's input, the true matte, its own matte, and the person on green.

Both kinds of picture are layers of one clip, [1, n, h, w, 3], for `data_pipelines.tools.preview` to lay out and write.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from data_pipelines.pipelines import matting
from data_pipelines.tools.preview import COLUMNS, Layers
from train.device.evaluation import ValidationClip

GREEN = np.array([0, 177, 64], np.float32)
THUMBNAIL = 256


def sheet(clips: Sequence[ValidationClip]) -> Layers:
    """The middle frame of each of the first clips, as if they were moments of one."""
    middles = [ValidationClip(*(frames[len(frames) // 2] for frames in clip)) for clip in clips[:COLUMNS]]
    return _layers(ValidationClip(*map(np.stack, zip(*middles, strict=True))))


def film(clip: ValidationClip) -> Layers:
    """All frames of a clip."""
    return _layers(clip)


def _layers(frames: ValidationClip) -> Layers:
    source, alpha, foreground, matte = map(_thumbnails, frames)
    composite = matting.composite(foreground, matte, GREEN)
    shown = {"input": source, "true matte": alpha, "matte": matte, "on green": composite}
    return {name: pictures[None] for name, pictures in shown.items()}


def _thumbnails(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 1 or 3] as uint8 [n, h, w, 3], no larger than a thumbnail."""
    height, width = pictures.shape[1:3]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pictures = np.broadcast_to(pictures, (*pictures.shape[:3], 3))
    return np.stack([np.asarray(Image.fromarray(picture).resize(size)) for picture in pictures])
