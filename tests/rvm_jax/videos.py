"""Small videos to read and to compare with what was written."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 64, 48


def moving(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 [count, H, W, 3]: a bright block that moves over a dark slope, which survives any codec."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        frames[number] = np.stack([x * 60 // width, y * 60 // height, np.full_like(x, 40)], -1)
        left = 8 * number % (width - 16)
        frames[number, 8:24, left : left + 16] = (200, 180, 40)
    return frames


def write(
    path: Path,
    frames: np.ndarray | Sequence[np.ndarray],
    *,
    rate: Fraction | int = 25,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    colors: tuple[int, int] | None = None,
    sound: str | None = None,
    seconds_of_sound: float | None = None,
    sound_rate: int = 48000,
    sound_layout: str = "stereo",
) -> Path:
    """Write a video; `times` in `time_base`, by default one frame after the other; `colors` are matrix and range."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.options = options or ({"crf": "5"} if codec == "libx264" else {})
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        convert: dict[str, Any] = {}
        if colors is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colors
            convert = {"dst_colorspace": colors[0], "src_color_range": 2, "dst_color_range": colors[1]}
        if rotation:
            stream.set_display_rotation(rotation)
        audio: Any = output.add_stream(sound, rate=sound_rate, layout=sound_layout) if sound else None
        for number, frame in enumerate(frames):
            made = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            made = made.reformat(format=pixels, **convert)
            made.pts = number if times is None else times[number]
            made.time_base = time_base if time_base is not None else 1 / Fraction(rate)
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
        if audio is not None:
            seconds = seconds_of_sound or len(frames) / float(rate)
            _write_sound(output, audio, seconds)
    return path


def _write_sound(output: Any, audio: Any, seconds: float) -> None:
    """A tone of 440 Hz."""
    context = audio.codec_context
    rate, layout = context.sample_rate, context.layout
    tone = np.sin(np.arange(round(rate * seconds)) * 2 * np.pi * 440 / rate).astype(np.float32)
    size = context.frame_size or 1024
    resampler = av.AudioResampler(context.format, layout, rate, size)
    for start in range(0, len(tone), size):
        part = tone[start : start + size]
        frame = av.AudioFrame.from_ndarray(np.stack([part] * layout.nb_channels), "fltp", layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for resampled in resampler.resample(frame):
            output.mux(audio.encode(resampled))
    for resampled in resampler.resample(None):
        output.mux(audio.encode(resampled))
    output.mux(audio.encode(None))


def timing(path: Path) -> list[tuple[Fraction, Fraction]]:
    """When each frame is shown, and for how long, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base or Fraction(0)
        return [((frame.pts or 0) * base, frame.duration * base) for frame in container.decode(stream)]


def sound(path: Path) -> list[tuple[Fraction, bytes]]:
    """The packets of the first track of sound."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [((packet.pts or 0) * packet.time_base, bytes(packet)) for packet in packets]
