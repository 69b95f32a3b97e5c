"""Sound tracks: packets of a source copied to where a file can hold them, or encoded again."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import av

PacketWriter = Callable[["av.Packet[Any] | None"], None]
"""Takes the packets of a track in order, and None at their end."""

RATES = {
    "aac": (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    "libopus": (48000,),
}
"""What encoders take; all else becomes 48000."""

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""What all of them take, by the number of channels; all else becomes stereo."""


def track(
    output: av.container.OutputContainer, sound: av.AudioStream, kept: Collection[str], encoder: str
) -> PacketWriter:
    """Add a track to a file that can hold packets of the codecs in `kept`, and what `encoder` makes."""
    known = sound.codec_context.codec.canonical_name  # not that of the decoder, such as mp3float
    return _copied(output, sound) if known in kept else _encoded(output, sound, encoder)


def _copied(output: av.container.OutputContainer, sound: av.AudioStream) -> PacketWriter:
    copy = output.add_stream_from_template(sound)
    _describe(copy, sound)

    def put(packet: "av.Packet[Any] | None") -> None:
        if packet is not None:
            packet.stream = copy
            output.mux(packet)

    return put


def _encoded(output: av.container.OutputContainer, sound: av.AudioStream, encoder: str) -> PacketWriter:
    rate = sound.rate if sound.rate in RATES[encoder] else 48000
    made: Any = output.add_stream(encoder, rate=rate, layout=LAYOUTS.get(sound.layout.nb_channels, "stereo"))
    _describe(made, sound)
    resampler: av.AudioResampler | None = None
    kind: tuple[Any, ...] = ()

    def resampled(frame: av.AudioFrame | None) -> None:
        for part in resampler.resample(frame) if resampler else ():
            output.mux(made.encode(part))

    def put(packet: "av.Packet[Any] | None") -> None:
        nonlocal resampler, kind
        frames: list[av.AudioFrame] = []
        with contextlib.suppress(av.FFmpegError):  # a damaged packet is a moment of silence
            frames = sound.codec_context.decode(packet)
        for frame in frames:
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                resampled(None)
                resampler = av.AudioResampler(made.codec_context.format, made.codec_context.layout, rate)
            resampled(frame)
        if packet is None:
            resampled(None)
            output.mux(made.encode(None))

    return put


def _describe(made: av.AudioStream, sound: av.AudioStream) -> None:
    if sound.language:
        made.metadata["language"] = sound.language
