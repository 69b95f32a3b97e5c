"""Writers: each target is written in a thread of its own, and stands where it is to be when all of it is there."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from rvm_jax.host import prefetch
from rvm_jax.host.files import recording, replacing, writing
from rvm_jax.video import sink
from rvm_jax.video.frames import Source
from rvm_jax.video.streaming.chunks import Chunk
from rvm_jax.video.streaming.latency import Tally
from rvm_jax.video.writing import live
from rvm_jax.video.writing.targets import Target, is_empty_folder

ChunkWriter = Callable[[tuple[Chunk, Array]], None]
"""Writes a chunk, given what became of its frames: uint8 or uint16 [T, H, W, C]."""


class Encoding(NamedTuple):
    """How all targets are written."""

    quality: sink.Quality
    mbps: float | None
    pictures: sink.Pictures
    encoder: live.Encoder
    once: bool
    """Whether the source cannot be read again."""
    paced: bool
    """Whether viewers of what is sent are to get each frame when it is time for it."""
    queued: int
    """How many chunks may wait to be written."""
    stop: Callable[[], Any]
    """Says true once nothing more is to be waited for."""


def place(
    one: Target, force: bool, once: bool, stop: Callable[[], Any], tally: Tally
) -> contextlib.AbstractContextManager[Path | None]:
    """Where to write it: beside its name until all is there, or, of what comes only `once`, where it is to be."""

    def left_at_once() -> bool:
        """By a second Ctrl-C, where the first would have done all that is on its way."""
        return bool(stop()) and isinstance(sys.exception(), KeyboardInterrupt)

    if one.path is None:
        return contextlib.nullcontext()
    overwrite = force or is_empty_folder(one.path)
    if once:
        return recording(one.path, overwrite=overwrite, keep=lambda: tally.written > 0)
    return replacing(one.path, overwrite=overwrite, keep=left_at_once)


@contextlib.contextmanager
def open_writer(
    one: Target, place: Path | None, video: Source, channels: int, how: Encoding, tally: Tally, *, keep_sound: bool
) -> Iterator[ChunkWriter]:
    """What writes to `place`, which is the target or will be, in a thread of its own, and counts what is written."""
    options: dict[str, Any] = {"quality": how.quality, "mbps": how.mbps, "keep_sound": keep_sound}
    video = sink.as_seen(video, channels)
    form = live.form(one.ending, how.encoder, video, growing=how.once)
    opened: contextlib.AbstractContextManager[sink.ItemWriter]
    delivery = live.Delivery(one.name, how.stop)
    if place is None and form is not None:
        opened = live.open_live(one.name, form, video, channels, paced=how.paced, delivery=delivery, **options)
    elif form is not None:
        opened = sink.open_video(str(place), form, video, channels, **options)
    elif place is not None:
        opened = sink.open_sink(place, one.ending, video, channels, pictures=how.pictures, **options)
    with writing(one.name), opened as put:

        def write(item: tuple[Chunk, Array]) -> None:
            chunk, made = item
            with writing(one.name):
                for packet in chunk.sound:
                    put(packet)
                for frame, pixels in zip(chunk.frames, np.asarray(made), strict=False):
                    put(frame._replace(pixels=pixels))
            tally.add(len(chunk.frames), chunk.dropped, chunk.arrived)

        with prefetch.background_writer(write, how.queued, delivery.check) as enqueue:
            yield enqueue
