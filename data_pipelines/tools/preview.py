"""Pictures of what the network will see: training clips after augmentation, as a grid and as a video."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image

from data_pipelines.pipelines import matting, segmentation
from data_pipelines.pipelines.batches import Batch, Batches, Slice, arrays
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.records.clips import Clips
from data_pipelines.sampling.windows import SMALLEST
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing

Layers = Mapping[str, np.ndarray]
AugmentationName = Literal["auto", "video", "images", "none"]
COLUMNS = 6
FRAMES_PER_SECOND = 12
GAP = 4
THUMBNAIL = 256
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
    return {name: _shrunk(pictures) for name, pictures in _layers(batch).items()}


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
    source = matting.composite(foreground, alpha, background)
    return {"source": source, "foreground": foreground, "alpha": np.repeat(alpha, 3, -1), "background": background}


def _shrunk(pictures: np.ndarray) -> np.ndarray:
    clips, frames, height, width, _ = pictures.shape
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(Image.fromarray(picture).resize(size)) for clip in pictures for picture in clip]
    return np.stack(small).reshape(clips, frames, size[1], size[0], 3)


def _beside(pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.pad(picture, ((0, GAP), (0, GAP), (0, 0))) for picture in pictures], 1)
