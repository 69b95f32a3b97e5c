"""The pixels of a segmentation sample, from its plan: NumPy and OpenCV alone, since worker processes make them."""

import functools
from collections.abc import Sequence

import numpy as np

from data_pipelines.augment import color, easing, motion
from data_pipelines.pipelines.samples import Plan
from data_pipelines.records import images
from data_pipelines.records.clips import Clips


def render(plan: Plan, clips: Clips, out: Sequence[np.ndarray] | None = None) -> Sequence[np.ndarray]:
    """The pixels of a plan (as NumPy arrays), in `out` if given: image and mask, uint8 [T, h, w, 3 or 1]."""
    numbers = plan["frames"].tolist()
    height, width = int(plan["height"]), int(plan["width"])
    read = functools.lru_cache(maxsize=1)(clips.read)
    with images.named(clips, numbers[0]):
        source = images.size(read(numbers[0])["image"])
    box = motion.random_box(*source, float(plan["area"]), float(plan["aspect"]), plan["corner"])
    forward = motion.affine(plan["placed"], *source) @ motion.affine(easing.along(plan["moves"], len(numbers)), *source)
    inverse = np.linalg.inv(forward)  # [T, 3, 3]
    inverse = inverse @ motion.crop(box, bool(plan["flip"]), height, width)
    reduction = motion.reduction(inverse)
    inverse = np.diag([1 / reduction, 1 / reduction, 1.0]) @ inverse
    out = out or [np.empty((len(numbers), height, width, channels), np.uint8) for channels in (3, 1)]
    pictures, masks = out
    decoded, image, mask = -1, np.empty(0), np.empty(0)
    for moment, number in enumerate(numbers):
        if number != decoded:
            decoded = number
            with images.named(clips, number):
                record = read(number)
                image = images.decode_color(record["image"], reduction)
                mask = images.decode_gray(record["mask"], reduction)
        seen = motion.warp(image, inverse[moment], height, width)
        pictures[moment] = color.adjust(seen, plan["jitter"], grayscale=bool(plan["grayscale"]))
        masks[moment, :, :, 0] = motion.warp(mask, inverse[moment], height, width) >= 128
    return out
