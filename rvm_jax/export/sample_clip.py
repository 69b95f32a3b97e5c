"""A short clip to compare networks on: a drawn person who walks and waves, or the first frames of one's own."""

import itertools
from pathlib import Path

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.video import source
from rvm_jax.video.frames import Frame, at_depth


def draw(size: tuple[int, int], count: int) -> np.ndarray:
    """`count` frames of `size` (height, width), uint8 `[T, H, W, 3]`: the same clip at any size."""
    height, width = size
    # Distances are in heights of the frame, from its centre.
    y = (np.arange(height) + 0.5)[:, None] / height - 0.5
    x = ((np.arange(width) + 0.5)[None, :] - width / 2) / height
    background = np.stack(
        [
            0.45 + 0.2 * np.sin(9 * x + 2 * y) + 0.1 * np.sin(40 * y),
            0.50 + 0.2 * np.cos(7 * x - 5 * y) + 0.1 * np.sin(35 * x),
            0.40 + 0.3 * y + 0.1 * np.sin(23 * (x + y)),
        ],
        -1,
    )  # [H, W, 3]

    def ellipse(center: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """1 inside, 0 outside, and in between at the edge, `[H, W, 1]`."""
        distance = np.hypot((y - center[0]) / radii[0], (x - center[1]) / radii[1]) - 1
        return np.clip(0.5 - distance * min(radii) * height / 2, 0, 1)[..., None]

    frames = []
    for step in range(count):
        walk, swing = 0.04 * step - 0.1, 0.15 * np.sin(1.2 * step)
        frame = background
        for center, radii, color in (
            ((0.45, walk), (0.42, 0.19), (0.15, 0.25, 0.55)),  # body
            ((0.22 - swing, walk - 0.22), (0.20, 0.05), (0.20, 0.30, 0.60)),  # arms
            ((0.22 + swing, walk + 0.22), (0.20, 0.05), (0.20, 0.30, 0.60)),
            ((0.02, walk), (0.08, 0.05), (0.75, 0.55, 0.45)),  # neck
            ((-0.17, walk), (0.17, 0.13), (0.25, 0.15, 0.10)),  # hair
            ((-0.13, walk), (0.14, 0.11), (0.85, 0.65, 0.55)),  # face
        ):
            inside = ellipse(center, radii)
            frame = frame + inside * (np.array(color) - frame)
        frames.append(np.round(255 * np.clip(frame, 0, 1)).astype(np.uint8))
    return np.stack(frames)


def read(path: Path, count: int) -> np.ndarray:
    """The first `count` frames of a video or of a folder of pictures, or as many as there are: uint8 `[T, H, W, 3]`."""
    with source.open_source(str(path)) as opened:
        frames = (at_depth(item.pixels, np.uint8) for item in opened.items if isinstance(item, Frame))
        taken = list(itertools.islice(frames, count))
    if len(taken) < 2:
        raise InputError(f"{path} holds {len(taken)} frame to compare on: expected two or more")
    return np.stack(taken)
