"""The clips of the synthetic dataset: numbers in, encoded frames out."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from data_pipelines import synthetic
from data_pipelines.archives.clip import ArchiveClip, Found, Record
from data_pipelines.archives.decode import encode_jpeg, encode_png
from data_pipelines.builders.synthetic import ROLES
from rvm_jax.errors import InputError

Frames = Callable[[int, int, int, int, int], dict[str, np.ndarray]]
"""(seed, index, frames, height, width) → the uint8 pictures [frames, height, width, 3 or 1] of every feature."""


def matting(*clip: int) -> dict[str, np.ndarray]:
    foreground, alpha = synthetic.person_clip(*clip)
    return {"foreground": foreground, "alpha": alpha}


def background(*clip: int) -> dict[str, np.ndarray]:
    return {"image": synthetic.background_clip(*clip)}


def segmentation(*clip: int) -> dict[str, np.ndarray]:
    image, mask = synthetic.segmentation_clip(*clip)
    return {"image": image, "mask": mask}


PICTURES: dict[str, Frames] = {"matting": matting, "background": background, "segmentation": segmentation}
"""By the first word of a role."""
SPLITS = ("train", "validation")
BLOCK = 2**32  # every role and split has as many numbers for itself, so that no clip is in two of them


def find(role: str, clips: dict[str, int], *, seed: int, frames: int, height: int, width: int) -> Found:
    """As many `clips` as asked for of each split, `frames` long."""
    for name, value, low in (("seed", seed, 0), ("frames", frames, 1), ("height", height, 16), ("width", width, 16)):
        if value < low:
            raise InputError(f"synthetic {role}: {name} is {value}, and {low} or more is expected")
    splits = {}
    for number, split in enumerate(SPLITS):
        first = BLOCK * (len(SPLITS) * ROLES.index(role) + number)
        splits[split] = [
            ArchiveClip(
                # All that makes the clip is in its name: what is prepared from other numbers is another clip.
                name=f"seed{seed}-{index:05d}-{frames}x{height}x{width}",
                files=(),
                encode=partial(encode, role, seed, first + index, frames, height, width),
            )
            for index in range(clips[split])
        ]
    return Found(splits)


def encode(role: str, seed: int, index: int, frames: int, height: int, width: int) -> Iterator[Record]:
    """Draw a clip; JPEG for colour, PNG for alpha and mask."""
    features = PICTURES[role.split("_")[0]](seed, index, frames, height, width)
    for frame in range(frames):
        yield {name: _encoded(pictures[frame]) for name, pictures in features.items()}


def _encoded(picture: np.ndarray) -> bytes:
    return (
        encode_png(Image.fromarray(picture[..., 0]))
        if picture.shape[-1] == 1
        else encode_jpeg(Image.fromarray(picture))
    )
