"""FFmpeg's filters between a decoder and the network: deinterlacing, tone-mapping of HDR, conversion to RGB."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from rvm_jax.errors import InputError
from rvm_jax.host.cores import cores
from rvm_jax.video.frames import BT709_FROM_HEIGHT, HDR, RGB, UNSPECIFIED, Colors

EXACTLY: dict[str, Any] = {
    "interpolation": Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND,
    "threads": max(1, min(4, cores() // 4)),
}
"""How colours are converted. FFmpeg's usual way doubles pixels of colour and makes all darker by a level."""

BT709 = Colors(1, 1, 1)
SCALER_FLAGS = "flags=bicubic+full_chroma_int+accurate_rnd"
"""`EXACTLY`, as the scaler among the filters has it."""
TONE_MAPPING = (
    f"{SCALER_FLAGS}:intent=perceptual:out_primaries=bt709:out_transfer=bt709:out_color_matrix=bt709:out_range=pc"
)


def filter_chain(
    width: int, height: int, form: av.VideoFormat, time_base: Fraction | None, *filters: tuple[str, str | None]
) -> av.filter.Graph:
    """FFmpeg's filters, each with its options, one after the other: frames of one kind are pushed and pulled."""
    graph = av.filter.Graph()
    taken = graph.add_buffer(width=width, height=height, format=form, time_base=time_base)
    graph.link_nodes(taken, *(graph.add(*one) for one in filters), graph.add("buffersink")).configure()
    return graph


class Deinterlacer:
    """What was stored as two fields a frame becomes whole frames, by bwdif.

    Frames go through it in the order in which they are shown. Up to the first interlaced one it does
    nothing. `tell` is called at that one.
    """

    def __init__(self, stream: av.VideoStream, tell: Callable[[], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[Any, ...] = ()

    def __call__(self, frames: Iterable[av.VideoFrame], *, last: bool) -> Iterator[av.VideoFrame]:
        """What is there after these frames, of which it keeps one or two back, unless they are the `last`."""
        for frame in frames:
            shape = frame.width, frame.height, frame.format.name
            if self._graph is None and frame.interlaced_frame:
                self._tell()
                self._graph, self._shape = self._made(frame), shape
            elif self._graph is not None and shape != self._shape:
                yield from self._rest(self._graph)
                self._graph, self._shape = self._made(frame), shape
            if self._graph is None:
                yield frame
            else:
                self._graph.push(frame)
                yield from self._ready(self._graph)
        if last and self._graph is not None:
            yield from self._rest(self._graph)

    def _made(self, frame: av.VideoFrame) -> av.filter.Graph:
        bwdif = "bwdif", "mode=send_frame:deint=interlaced"
        return filter_chain(frame.width, frame.height, frame.format, self._stream.time_base, bwdif)

    def _rest(self, graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
        graph.push(None)
        yield from self._ready(graph)

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


class RgbConverter:
    """Frames become RGB, as players show them on a screen of today's web: HDR is tone-mapped to BT.709, if not kept.

    It has 8 bits, or 16 where the frame has more than 8. `tell` is called with the name of the kind of HDR at the first
    such frame.
    """

    def __init__(self, name: str, tell: Callable[[str], None], *, keep_hdr: bool = False) -> None:
        self._name = name
        self._tell = tell
        self._keep_hdr = keep_hdr
        self._told = False
        self._reformatter = VideoReformatter()
        self._tone_mappers: dict[tuple[Any, ...], av.filter.Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> tuple[np.ndarray, Colors]:
        """The pixels [H, W, 3], and how a copy should store their colours."""
        kind = f"{frame.format.name}, matrix {frame.colorspace}"
        try:
            if frame.color_trc in HDR:
                if not self._told:
                    self._tell(HDR[frame.color_trc])
                    self._told = True
                if not self._keep_hdr:
                    return self._tone_mapped(frame), BT709
            return self._converted(frame), Colors(frame.colorspace, frame.color_primaries, frame.color_trc)
        except av.FFmpegError as error:
            raise InputError(
                f"{self._name} has colours that FFmpeg cannot convert ({kind}): encode it again"
            ) from error

    def _converted(self, frame: av.VideoFrame) -> np.ndarray:
        matrix = None  # that of the frame
        if frame.colorspace in (UNSPECIFIED, RGB):
            matrix = Colorspace.ITU709 if frame.height >= BT709_FROM_HEIGHT else Colorspace.ITU601
        rgb = self._reformatter.reformat(
            frame, format=_rgb_format(frame), src_colorspace=matrix, dst_color_range=ColorRange.JPEG, **EXACTLY
        )
        pixels = rgb.to_ndarray()
        yuv = not frame.format.is_rgb and len(frame.format.components) > 2
        return to_full_scale(pixels) if yuv and pixels.dtype == np.uint16 else pixels

    def _tone_mapped(self, frame: av.VideoFrame) -> np.ndarray:
        shape = frame.width, frame.height, frame.format.name, frame.color_trc
        if shape not in self._tone_mappers:
            filters = ("scale", TONE_MAPPING), ("format", _rgb_format(frame))
            self._tone_mappers[shape] = filter_chain(frame.width, frame.height, frame.format, frame.time_base, *filters)
        self._tone_mappers[shape].push(frame)
        rgb: Any = self._tone_mappers[shape].pull()
        return rgb.to_ndarray()


def to_full_scale(pixels: np.ndarray) -> np.ndarray:
    """uint16 RGB that FFmpeg's scaler made of YUV: its white is 255·256, as is that which it makes YUV of."""
    pixels = np.minimum(pixels, 255 << 8)
    return pixels + (pixels >> 8)


def from_full_scale(pixels: np.ndarray) -> np.ndarray:
    return pixels - (pixels >> 8)


def _rgb_format(frame: av.VideoFrame) -> str:
    return "rgb48le" if max(component.bits for component in frame.format.components) > 8 else "rgb24"
