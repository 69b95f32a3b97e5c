"""Sound that goes from a video into what is made of it: as it is where the file can hold it, or encoded again."""

from collections.abc import Callable, Collection
from typing import Any

import av

Put = Callable[["av.Packet[Any] | None"], None]
"""Takes the packets of a track in order, and None at their end."""


def track(output: av.container.OutputContainer, sound: av.AudioStream, kept: Collection[str], encoder: str) -> Put:
    """Add a track to a file that can hold packets of the codecs in `kept`, and what `encoder` makes."""
    return _copied(output, sound) if sound.codec_context.name in kept else _encoded(output, sound, encoder)


def _copied(output: av.container.OutputContainer, sound: av.AudioStream) -> Put:
    copy = output.add_stream_from_template(sound)
    _describe(copy, sound)

    def put(packet: "av.Packet[Any] | None") -> None:
        if packet is not None:
            packet.stream = copy
            output.mux(packet)

    return put


def _encoded(output: av.container.OutputContainer, sound: av.AudioStream, encoder: str) -> Put:
    rate = 48000 if encoder == "libopus" else sound.rate  # Opus knows few rates
    made: Any = output.add_stream(encoder, rate=rate, layout=sound.layout.name)
    _describe(made, sound)
    resampler: av.AudioResampler | None = None

    def put(packet: "av.Packet[Any] | None") -> None:
        nonlocal resampler
        if resampler is None:  # the encoder is open by now, and tells how long its frames are
            context = made.codec_context
            resampler = av.AudioResampler(context.format, context.layout, rate, context.frame_size or None)
        for frame in [*sound.codec_context.decode(packet), *([None] if packet is None else [])]:
            for part in resampler.resample(frame):
                output.mux(made.encode(part))
        if packet is None:
            output.mux(made.encode(None))

    return put


def _describe(made: av.AudioStream, sound: av.AudioStream) -> None:
    if sound.language:
        made.metadata["language"] = sound.language
