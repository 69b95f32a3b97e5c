"""Deinterlacing: what cameras and broadcasters stored as two fields a frame becomes whole frames, by FFmpeg's bwdif."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av


class Deinterlacer:
    """Frames go through it in the order in which they are shown. Up to the first interlaced one it does nothing.

    `tell` is called at that one.
    """

    def __init__(self, stream: av.VideoStream, tell: Callable[[], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._graph: av.filter.Graph | None = None

    def __call__(self, frames: Iterable[av.VideoFrame], *, last: bool) -> Iterator[av.VideoFrame]:
        """What is there after these frames, of which it keeps one or two back, unless they are the `last`."""
        for frame in frames:
            if self._graph is None and frame.interlaced_frame:
                self._tell()
                self._graph = self._made(frame)
            if self._graph is None:
                yield frame
            else:
                self._graph.push(frame)
                yield from self._ready(self._graph)
        if last and self._graph is not None:
            self._graph.push(None)
            yield from self._ready(self._graph)

    def _made(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        taken = graph.add_buffer(
            template=self._stream, width=frame.width, height=frame.height, format=frame.format
        )  # fmt: skip
        bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        graph.link_nodes(taken, bwdif, graph.add("buffersink")).configure()
        return graph

    def _ready(self, graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
        while True:
            frame: Any
            try:
                frame = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            # It counts in halves of the stream's time base, in which there would be room for a frame of each field.
            if frame.pts is not None:
                frame.pts //= 2
            frame.duration //= 2
            frame.time_base = self._stream.time_base
            yield frame
