"""Encoders: frames to video files with or without transparency, and to pictures.

What is written has the times, the shape of pixels, the colour space, the metadata and the sound of the source it was
made from, and its depth where the kind of file has room for it.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video.filters import SCALER_FLAGS, filter_chain, from_full_scale
from rvm_jax.video.frames import BT709_FROM_HEIGHT, RGB, UNSPECIFIED, Colors, Frame, Item, Source, at_depth, resized
from rvm_jax.video.writing import picture_encoding, sound
from rvm_jax.video.writing.containers import open_container
from rvm_jax.video.writing.picture_encoding import PACKED, as_image

Quality = Literal["low", "medium", "high"]
Pictures = Literal["png", "tif", "exr"]

ItemWriter = Callable[[Item], None]
"""Takes frames whose pixels are [H, W, C], C = 1 (gray), 3 (RGB) or 4 (RGB and alpha, straight), and sound.

They are uint8, or uint16 where the source is deep and the file `keeps_depth`.
"""


class FileKind(NamedTuple):
    container: str
    codec: str
    opaque: str
    """How pixels are stored where there is no alpha."""
    transparent: str | None
    options: dict[str, str]
    crf: dict[Quality, int] | None
    """What FFmpeg calls the quality, for codecs that have one."""
    sounds: tuple[str, ...]
    """The codecs of sound that it can hold."""
    encoder: str
    """What encodes all other sound."""
    keeps_aspect: bool = True
    """Whether pixels need not be square."""
    gray: str | None = None
    """How alpha by itself is stored, if not as a picture is."""
    muxing: dict[str, str] = {}  # noqa: RUF012 — of a NamedTuple, and nobody changes it
    """Options of the container."""
    quality_option: str = "crf"


ONE_RATE = ("yuv4mpegpipe",)
"""Containers that have a frame rate, and no times."""

LARGEST_SIDE = 16384
"""Pixels a side of what is made of pixels that are not square: a small file can say that they are of any shape."""

HALF_COLOR = ("libx264", "h264_nvenc", "libx265")
"""Encoders of what has a colour for two by two pixels."""

FINEST_QUANTIZER = {"flags": "+qscale", "global_quality": "118"}
"""What the ProRes encoder comes to by itself, on people and on noise, after four times as much work."""

FORMATS = {
    ".mp4": FileKind(
        container="mp4",
        codec="libx264",
        opaque="yuv420p",
        transparent=None,
        options={"preset": "fast", "bf": "0"},  # with frames out of order, irregular times make durations wrong
        crf={"low": 28, "medium": 23, "high": 18},
        sounds=("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"),
        encoder="aac",
        muxing={"movflags": "+faststart"},
    ),
    ".mov": FileKind(
        container="mov",
        codec="prores_ks",
        opaque="yuv444p10le",
        transparent="yuva444p10le",
        options={"profile": "4444", "vendor": "apl0", "alpha_bits": "16", **FINEST_QUANTIZER},
        crf=None,
        sounds=("aac", "ac3", "alac", "eac3", "mp3", "pcm_f32le", "pcm_s16be", "pcm_s16le", "pcm_s24le", "pcm_s32le"),
        encoder="aac",
        muxing={"movflags": "+faststart"},
    ),
    ".webm": FileKind(
        container="webm",
        codec="libvpx-vp9",
        opaque="yuv420p",
        transparent="yuva420p",
        options={"deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0", "b": "0"},
        crf={"low": 40, "medium": 32, "high": 22},
        sounds=("opus", "vorbis"),
        encoder="libopus",
        keeps_aspect=False,
    ),
    ".mkv": FileKind(
        container="matroska",
        codec="ffv1",
        opaque="bgr0",
        transparent="bgra",
        gray="gray",
        options={"level": "3", "slicecrc": "1", "g": "1"},
        crf=None,
        sounds=("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus", "pcm_f32le", "pcm_s16le", "pcm_s24le", "vorbis"),
        encoder="libopus",
    ),
    ".gif": FileKind("gif", "gif", "pal8", "pal8", options={}, crf=None, sounds=(), encoder="", keeps_aspect=False),
}
DEEP_FFV1 = FORMATS[".mkv"]._replace(opaque="gbrp10le", transparent="gbrap10le", gray="gray10le")

HEVC = FORMATS[".mp4"]._replace(
    codec="libx265", opaque="yuv420p10le", options={"preset": "fast", "x265-params": "log-level=error:bframes=0"}
)
"""For HDR, which players know as no other codec of .mp4."""

DEEP = (".mov", ".mkv", *picture_encoding.SUFFIXES)
"""What holds more than 8 bits of any source."""

HOLD_HDR = (".mp4", ".mov", ".mkv", ".png")

GIF_COLORS = 255  # one more is for what is transparent

BT709, BT601 = 1, 6
"""FFmpeg's numbers of matrices, as files are marked."""

MATRICES = {BT709: "bt709", 4: "fcc", 5: "bt470bg", BT601: "smpte170m", 7: "smpte240m", 9: "bt2020"}
"""Those that its scaler knows, by the names that they have there."""

EXACTLY = f"{SCALER_FLAGS}:in_range=pc:out_range=tv:out_chroma_loc=left:out_color_matrix={{}}"
"""How it is to convert: its usual way makes all darker by a level, and colours half a pixel too far to the right of
where decoders look for them."""


def check_kind(path: Path) -> None:
    """Refuse endings that cannot be written."""
    if path.suffix.lower() not in (*FORMATS, *picture_encoding.SUFFIXES, ""):
        kinds = ", ".join((*FORMATS, *picture_encoding.SUFFIXES))
        raise InputError(f"{path} cannot be written: expected an ending of {kinds}, or none for a folder of pictures")


def is_picture(path: Path) -> bool:
    """Whether it has an ending of what a folder can hold that was written here."""
    return path.suffix.lower() in picture_encoding.SUFFIXES


def keeps_alpha(ending: str) -> bool:
    return ending != ".mp4"


def keeps_depth(ending: str, source: Source) -> bool:
    """Whether uint16 is to be written to what has such an ending; "" is a folder of pictures."""
    return source.deep and (ending in (*DEEP, "") or (ending == ".mp4" and source.colors.hdr))


def check_hdr(name: str, ending: str, source: Source) -> None:
    """Refuse to write HDR to what cannot hold it."""
    if source.colors.hdr and ending not in HOLD_HDR:
        kinds = ", ".join(HOLD_HDR[:-1])
        raise InputError(f"{name} cannot hold HDR: write {kinds} or a folder of .png, or leave --hdr keep out")


def has_bit_rate(ending: str) -> bool:
    form = FORMATS.get(ending)
    return form is not None and form.crf is not None


@contextlib.contextmanager
def open_sink(
    path: Path,
    ending: str,
    source: Source,
    channels: int,
    *,
    quality: Quality = "high",
    mbps: float | None = None,
    keep_sound: bool = False,
    pictures: Pictures = "png",
) -> Iterator[ItemWriter]:
    """Gives a function that writes frames of so many channels, and sound, to `path`, as what has such an `ending`.

    Without one it is a folder of `pictures`.
    """
    source = as_seen(source, channels)
    if ending in FORMATS:
        options: dict[str, Any] = {"quality": quality, "mbps": mbps, "keep_sound": keep_sound}
        with open_video(str(path), file_kind(ending, source), source, channels, **options) as put:
            yield put
    elif ending:
        yield _picture(path, ending, source)
    else:
        path.mkdir()
        yield _folder(path, f".{pictures}", source)


def as_seen(source: Source, channels: int) -> Source:
    """The source that what has so many channels is marked by: alpha is no colour, so never HDR."""
    if channels == 1 and source.colors.hdr:
        return dataclasses.replace(source, colors=Colors())
    return source


def file_kind(ending: str, source: Source) -> FileKind:
    """How what has such an ending, which is one of `FORMATS`, is made of a source."""
    if ending == ".mp4" and source.colors.hdr:
        return HEVC
    return DEEP_FFV1 if ending == ".mkv" and source.deep else FORMATS[ending]


def _picture(path: Path, suffix: str, source: Source) -> ItemWriter:
    def put(item: Item) -> None:
        if isinstance(item, Frame):
            if path.exists():
                raise InputError(f"{source.name} has several frames, a {suffix} holds one: give a folder (no ending)")
            picture_encoding.save(item.pixels, path, suffix, source)

    return put


def _folder(path: Path, suffix: str, source: Source) -> ItemWriter:
    def put(item: Item) -> None:
        if isinstance(item, Frame):
            picture_encoding.save(item.pixels, path / f"{item.name}{suffix}", suffix, source)

    return put


@contextlib.contextmanager
def open_video(
    file: str,
    form: FileKind,
    source: Source,
    channels: int,
    *,
    quality: Quality = "high",
    mbps: float | None = None,
    keep_sound: bool = False,
) -> Iterator[ItemWriter]:
    """As `open_sink`, of one kind of video; `file` is also the URL of a stream or a pipe."""
    tracks: dict[int, sound.PacketWriter] = {}
    try:
        with open_container(file, form.container, form.muxing) as output:
            output.metadata.update(source.metadata)
            put_frame = _encoder(output, form, source, channels, quality, mbps)
            sounds = source.sounds if keep_sound and form.sounds else ()
            tracks = {one.index: sound.track(output, one, form.sounds, form.encoder) for one in sounds}

            def put(item: Item) -> None:
                if isinstance(item, Frame):
                    put_frame(item)
                elif item.stream.index in tracks:
                    tracks[item.stream.index](item)

            yield put
            put_frame(None)
            for put_sound in tracks.values():
                put_sound(None)
    except av.FFmpegError as error:
        if isinstance(error, av.InvalidDataError) and tracks:  # which nothing is that encoders here have made
            raise InputError(
                f"the sound of {source.name} is damaged, and cannot be copied: write .webm, whose sound is encoded "
                "again, or copy or download it again"
            ) from error
        raise OSError(error.errno, error.strerror) from error


def _encoder(
    output: av.container.OutputContainer,
    form: FileKind,
    source: Source,
    channels: int,
    quality: Quality,
    mbps: float | None,
) -> Callable[[Frame | None], None]:
    """A function that writes a frame; for None, what the encoder still holds."""
    stream: Any = output.add_stream(form.codec, rate=source.rate)
    context = stream.codec_context
    tick = 1 / source.rate if form.container in ONE_RATE else source.time_base
    context.time_base = tick
    size = (source.height, source.width) if form.keeps_aspect else _with_square_pixels(source)
    context.height, context.width = size
    context.pix_fmt = {1: form.gray, 4: form.transparent}.get(channels) or form.opaque
    options = dict(form.options)
    if mbps is not None:
        context.bit_rate = round(mbps * 1e6)
        options.pop("b", None)
    elif form.crf:
        options[form.quality_option] = str(form.crf[quality])
    context.options = options
    if form.codec == "libx265":
        context.codec_tag = "hvc1"  # without which Apple's players show nothing
    if form.codec in HALF_COLOR:  # two by two pixels share a colour, so an odd side is made even
        context.height, context.width = (side + side % 2 for side in size)
    convert: Callable[[np.ndarray], av.VideoFrame] = _gif_frame if form.codec == "gif" else _rgb_frame
    if form.codec != "gif":
        context.sample_aspect_ratio = source.pixel_aspect if form.keeps_aspect else 1
    if form.codec not in ("gif", "rawvideo"):
        _mark(context, source)
        convert = _converter(context, channels)
    durations: dict[int, int] = {}
    number = itertools.count()

    def put(frame: Frame | None) -> None:
        encoded = None
        if frame is not None:
            encoded = convert(resized(frame.pixels, size))
            encoded.pts, encoded.time_base = frame.time, tick
            if form.container in ONE_RATE:
                encoded.pts = next(number)
            else:
                durations[frame.time] = frame.duration
        for packet in stream.encode(encoded):
            packet.duration = durations.pop(packet.pts, 0) or packet.duration
            output.mux(packet)

    return put


def _with_square_pixels(source: Source) -> tuple[int, int]:
    """Height and width that show the same shape; neither is smaller than it was."""
    height, width, aspect = source.height, source.width, source.pixel_aspect
    height, width = (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)
    if max(height, width) > LARGEST_SIDE:
        raise InputError(
            f"{source.name} has {width}×{height} pixels if they are made square: expected at most {LARGEST_SIDE} a "
            "side, so give --resize WIDTHxHEIGHT, or write .mp4, .mov or .mkv, whose pixels need not be square"
        )
    return height, width


def _mark(context: av.VideoCodecContext, source: Source) -> None:
    """Write down the colour space: that of the source, or else what players take it for."""
    matrix, primaries, transfer = source.colors
    context.color_primaries, context.color_trc = primaries, transfer
    stored = str(context.pix_fmt)
    if not stored.startswith("yuv"):
        gray = stored.startswith("gray")
        context.colorspace, context.color_range = UNSPECIFIED if gray else RGB, int(ColorRange.JPEG)
        return
    if matrix not in MATRICES:
        matrix = BT709 if source.height >= BT709_FROM_HEIGHT else BT601
    context.colorspace, context.color_range = matrix, int(ColorRange.MPEG)


def _converter(context: av.VideoCodecContext, channels: int) -> Callable[[np.ndarray], av.VideoFrame]:
    """A function that makes of pixels a frame as it is to be stored."""
    scaling = EXACTLY.format(MATRICES[context.colorspace]) if context.colorspace in MATRICES else SCALER_FLAGS

    @functools.cache
    def graph(stored: str) -> av.filter.Graph:
        filters = ("scale", scaling), ("format", context.pix_fmt)
        return filter_chain(context.width, context.height, av.VideoFormat(stored), context.time_base, *filters)

    def convert(pixels: np.ndarray) -> av.VideoFrame:
        height, width = pixels.shape[:2]
        if (height, width) != (context.height, context.width):
            pixels = np.pad(pixels, ((0, context.height - height), (0, context.width - width), (0, 0)), "edge")
        if pixels.dtype == np.uint16 and str(context.pix_fmt).startswith("yuv"):
            colors, alpha = pixels[..., :3], pixels[..., 3:]
            pixels = np.concatenate([from_full_scale(colors), alpha], -1) if channels == 4 else from_full_scale(pixels)
        stored = PACKED[pixels.dtype.name][channels]
        packed = np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)
        graph(stored).push(av.VideoFrame.from_ndarray(packed, stored))
        converted: Any = graph(stored).pull()
        # ProRes has them in each frame too.
        converted.colorspace = context.colorspace
        converted.color_primaries, converted.color_trc = context.color_primaries, context.color_trc
        return converted

    return convert


def _rgb_frame(pixels: np.ndarray) -> av.VideoFrame:
    """A frame as it is; gray as RGB."""
    height, width, channels = pixels.shape
    whole = np.broadcast_to(pixels, (height, width, max(channels, 3)))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(whole), "rgba" if channels == 4 else "rgb24")


def _gif_frame(pixels: np.ndarray) -> av.VideoFrame:
    """A frame with colours of its own, and one for what is more than half transparent."""
    pixels = at_depth(pixels, np.uint8)
    indexed = as_image(pixels[..., :3]).convert("RGB").quantize(GIF_COLORS, Image.Quantize.MEDIANCUT)
    indices = np.array(indexed)
    colors = np.asarray(indexed.getpalette(), np.uint8).reshape(-1, 3)[:GIF_COLORS]
    palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
    palette[: len(colors), 1:] = colors
    if pixels.shape[-1] == 4:
        palette[GIF_COLORS] = 0
        indices[pixels[..., 3] < 128] = GIF_COLORS
    both: Any = (indices, palette)
    return av.VideoFrame.from_ndarray(both, "pal8")
