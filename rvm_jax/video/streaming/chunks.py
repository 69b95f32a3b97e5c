"""Chunks: consecutive frames that are on the device at once, and the sound that belongs to them."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np

from rvm_jax.video.backgrounds import Background
from rvm_jax.video.frames import Frame, Source
from rvm_jax.video.plates.alignment import Alignment, aligned


class Chunk(NamedTuple):
    """Consecutive frames, and the sound that comes before or between them."""

    pixels: np.ndarray
    """uint8 or uint16 [T, H, W, 3]; if there are fewer frames than T, the last one is repeated."""
    background: np.ndarray | None
    """The same of the background, if that moves."""
    frames: list[Frame]
    """Without their pixels."""
    sound: list["av.Packet[Any]"]
    arrived: float
    """The monotonic time when the last of the frames was read."""
    dropped: int = 0
    """How many frames before these were left out."""
    plate: np.ndarray | None = None
    """uint8 or uint16 [T, H, W, 3]: the clean plate of each frame, if it was aligned with it."""


def read_chunks(
    video: Source, length: int, background: Background, plate: Alignment | None = None, *, at_once: bool = False
) -> Iterator[Chunk]:
    """The frames of a video, `length` at a time, each with the `plate` that is aligned with it; there must be one.

    The sound that follows on a chunk is in it, unless it is given `at_once`, when its last frame has come: what follows
    on the last chunk is then in one without frames.
    """
    frames: list[Frame] = []
    sound: list[av.Packet[Any]] = []

    def chunk() -> Chunk:
        seen = frames or [last]
        missing = length - len(seen)
        pixels = np.stack([frame.pixels for frame in seen] + [last.pixels] * missing)
        shown = None
        if background.moving is not None:
            moving = [background.moving(frame.time * video.time_base) for frame in seen]
            shown = np.stack(moving + moving[-1:] * missing)
        plates = None
        if plate is not None:
            warped = [aligned(plate, frame.pixels) for frame in seen]
            plates = np.stack(warped + warped[-1:] * missing)
        return Chunk(pixels, shown, [frame._replace(pixels=pixels[:0]) for frame in frames], sound, arrived, 0, plates)

    for item in video.items:
        if not isinstance(item, Frame):
            sound.append(item)
            continue
        if len(frames) == length:
            yield chunk()
            frames, sound = [], []
        last = item
        frames.append(last)
        arrived = time.monotonic()
        if at_once and len(frames) == length:
            yield chunk()
            frames, sound = [], []
    if frames or (at_once and sound):
        yield chunk()


def newer(old: Chunk, new: Chunk) -> Chunk:
    """What to matte where both wait: the newer frames, and all of the sound."""
    return new._replace(sound=old.sound + new.sound, dropped=old.dropped + len(old.frames) + new.dropped)
