"""Pictures of what the network will see: training clips after augmentation, as a grid and as a video."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipelines.pipelines import matting, matting_pixels, segmentation
from data_pipelines.pipelines.batches import Batch, Batches, Slice, arrays
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.records.clips import Clips
from data_pipelines.sampling.windows import SMALLEST
from rvm_jax.errors import InputError
from rvm_jax.report.contact_sheet import Layers, thumbnails, write_film, write_grid

AugmentationName = Literal["auto", "video", "images", "none"]
MOST_CLIPS = 32
MOST_GIGABYTES = 4


def write(
    data: MattingData | Clips,
    folder: Path,
    *,
    clips: int,
    frames: int,
    size: int,
    seed: int,
    augmentation: AugmentationName,
    overwrite: bool,
) -> Iterator[Path]:
    """Write `grid.png` and `clips.mp4` with one batch as training would have it; yields their paths."""
    if not 1 <= clips <= MOST_CLIPS or frames < 1 or size < SMALLEST:
        raise InputError(
            f"{clips} clips of {frames} frames from {size} pixels: expected 1 to {MOST_CLIPS} clips, 1 frame or more, "
            f"and {SMALLEST} pixels or more"
        )
    gigabytes = 7 * clips * frames * size**2 / 1e9
    if gigabytes > MOST_GIGABYTES:
        raise InputError(
            f"{clips} clips of {frames} frames from {size} pixels are {gigabytes:.0f} GB: ask for less, up to "
            f"{MOST_GIGABYTES} GB"
        )
    for name in ("grid.png", "clips.mp4"):
        if (folder / name).exists() and not overwrite:
            raise InputError(f"{folder / name} exists already: choose another name, or overwrite it with --force")
    batch = next(arrays(_batches(data, Slice(clips), seed, frames, size, augmentation)))
    shown = layers(batch)
    write_grid(shown, folder / "grid.png", overwrite=overwrite)
    yield folder / "grid.png"
    write_film(shown, folder / "clips.mp4", overwrite=overwrite)
    yield folder / "clips.mp4"


def layers(batch: Batch) -> Layers:
    """What to show of a batch, no larger than a thumbnail: uint8 [B, T, h, w, 3] each, the network's input first."""
    return {name: thumbnails(pictures) for name, pictures in _layers(batch).items()}


def _batches(
    data: MattingData | Clips, part: Slice, seed: int, frames: int, size: int, augmentation: AugmentationName
) -> Batches:
    if isinstance(data, MattingData):
        mats = {"auto": data.augmentation, "video": matting.VIDEO, "images": matting.IMAGES, "none": matting.NONE}
        return matting.batches(
            data, part, seed=seed, stream="preview", frames=frames, size=size, augmentation=mats[augmentation]
        )
    auto = segmentation.STILLS if data.lengths.max() == 1 else segmentation.VIDEO
    segs = {"auto": auto, "video": segmentation.VIDEO, "images": segmentation.STILLS, "none": segmentation.NONE}
    return segmentation.batches(
        data, part, seed=seed, stream="preview", frames=frames, size=size, augmentation=segs[augmentation]
    )


def _layers(batch: Batch) -> Layers:
    if "mask" in batch:
        image, mask = batch["image"], batch["mask"]
        tinted = np.where(mask > 0, image // 2 + np.array([0, 127, 0], np.uint8), image)
        return {"image": image, "mask": np.repeat(mask * 255, 3, -1), "both": tinted}
    foreground, alpha, background = batch["foreground"], batch["alpha"], batch["background"]
    source = matting_pixels.composite(foreground, alpha, background)
    return {"source": source, "foreground": foreground, "alpha": np.repeat(alpha, 3, -1), "background": background}
