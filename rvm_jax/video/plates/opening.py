"""Opening of a clean plate: a picture, or the temporal median of a video, of one size with the frames."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.host.progress import Progress
from rvm_jax.video import demux, source
from rvm_jax.video.frames import Frame, Source, at_depth, resized

if TYPE_CHECKING:  # importing them takes JAX, and it takes seconds
    from rvm_jax.baselines.matte import BaselineMatte
    from rvm_jax.matte import Matte

AUTO = "auto"

MOST_FRAMES, MOST_BYTES = 50, 320_000_000
"""Of how many frames a median is taken: so many, or fewer where they would take more memory."""
FEWEST_FRAMES = 3
LONG = 3000
"""From how many frames on a video is not read whole: to seek is faster, though key frames may be 250 frames apart."""

DARKEST = 8  # of 255: a plate with no channel above it is black


def check_options(plate: str | None, align: bool, name: str) -> None:
    """Refuse what cannot be done with what is matted under a `name`, whatever the network."""
    if plate is None and align:
        raise InputError("--align-plate without a plate: give --plate FILE as well")
    if plate == AUTO and align:
        raise InputError("--plate auto is for a camera that stands still: with --align-plate give --plate FILE")
    if plate == AUTO and demux.is_live(name):
        raise InputError(f"--plate auto reads a video twice, and {name} can be read once: give --plate FILE")
    if plate is not None and plate != AUTO:
        expected = "a picture or a video of the view without the person"
        if demux.is_live(plate):
            raise InputError(f"--plate {plate}: expected a file, {expected}")
        source.check(plate, expected)


def check_network(matte: "Matte | BaselineMatte", plate: str | None, smooth: bool) -> None:
    """Refuse a plate that the network does not take, the lack of one that it needs, and smoothing of what is smooth."""
    if smooth and matte.keeps_state:
        raise InputError(f"{matte.name} remembers the frames before, and does not flicker: leave --one-frame-delay out")
    if plate is not None and not matte.needs:
        raise InputError(f"{matte.name} takes no clean plate: leave --plate out")
    if plate is None and matte.needs:
        raise InputError(
            f"{matte.name} needs a clean plate: give --plate FILE, a picture of the same view without the person, or "
            "--plate auto, the median of the video"
        )


def open_plate(
    plate: str,
    video: Source,
    again: Callable[[], AbstractContextManager[Source]],
    align: bool,
    stop: Callable[[], Any],
) -> np.ndarray | None:
    """The plate of a video, uint8 or uint16 [H, W, 3] and `fitted`; None if `stop` says true before it is read.

    `again` opens the video anew, for the median.
    """
    if plate != AUTO:
        pixels = read_plate(plate, stop)
        size = video.height, video.width
        return None if pixels is None else fitted(pixels, f"--plate {plate}", size, video.name, align)
    with again() as opened:
        frames = spread_frames(opened, FEWEST_FRAMES, stop)
    if frames is None:
        return None
    pixels, count = temporal_median(frames)
    print(f"rvm: the plate is the median of {count} frames: whoever stands still is in it", file=sys.stderr)
    return pixels


def read_plate(plate: str, stop: Callable[[], Any] = lambda: False) -> np.ndarray | None:
    """A picture, or the median of a video; None if `stop` says true before it is read."""
    with source.open_source(plate) as opened:
        frames = spread_frames(opened, 1, stop)
    return None if frames is None else temporal_median(frames)[0]


def fitted(pixels: np.ndarray, name: str, size: tuple[int, int], of: str, align: bool) -> np.ndarray:
    """A plate `name` brought to the (height, width) `of` frames; one that is to be aligned keeps its shape."""
    if pixels.max() <= DARKEST * (np.iinfo(pixels.dtype).max // 255):
        raise InputError(f"{name} is black: expected the same view as in {of}, without the person")
    height, width, _ = pixels.shape
    given, expected = f"{width}×{height}", f"{size[1]}×{size[0]}"
    if align:  # of any shape, but no finer than the frames
        scale = min(1, max(size) / max(height, width))
        return resized(pixels, (round(height * scale), round(width * scale)))
    if abs(height * size[1] - width * size[0]) > max(width, size[1]):
        raise InputError(
            f"{name} has {given} pixels, and {of} {expected}, another shape: crop one to the other, or give "
            "--align-plate if it was photographed by hand"
        )
    if given != expected:
        print(f"rvm: {name} is scaled from {given} to {expected} pixels", file=sys.stderr)
    return resized(pixels, size)


def spread_frames(video: Source, fewest: int, stop: Callable[[], Any] = lambda: False) -> list[np.ndarray] | None:
    """Frames that are evenly spread over a video, as many as memory allows; None if `stop` says true.

    Of a video that is read whole, every second one that was kept goes when there are more, and of those that come,
    twice as few are taken.
    """
    dtype = np.dtype(np.uint16 if video.deep else np.uint8)
    size = video.height, video.width
    most = max(FEWEST_FRAMES, min(MOST_FRAMES, MOST_BYTES // (video.height * video.width * 3 * dtype.itemsize)))
    frames, expected = (item.pixels for item in video.items if isinstance(item, Frame)), video.length
    if video.spread and video.length and video.length >= LONG:
        frames, expected = (at_depth(resized(pixels, size), dtype) for pixels in video.spread(most)), most
    kept: list[np.ndarray] = []
    step = 1
    with Progress(f"plate from {Path(video.name).name}") as progress:
        for number, pixels in enumerate(frames):
            if stop():
                return None
            progress.update(number + 1, expected)
            if number % step:
                continue
            if len(kept) == most:
                kept, step = kept[::2], 2 * step
                if number % step:
                    continue
            kept.append(pixels)
    if len(kept) < fewest:
        has = f"{len(kept)} frame{'s' * (len(kept) != 1)}"
        raise InputError(f"{video.name} has {has}: --plate auto wants {fewest}; give --plate FILE")
    return kept


def temporal_median(frames: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """The median of each pixel over an odd number of frames, and of how many: of an even one it would be no pixel."""
    frames = frames[: len(frames) - (len(frames) + 1) % 2]
    middle = np.empty_like(frames[0])
    for row in range(len(middle)):
        stacked = np.stack([pixels[row] for pixels in frames])
        middle[row] = np.partition(stacked, len(frames) // 2, axis=0)[len(frames) // 2]
    return middle, len(frames)
