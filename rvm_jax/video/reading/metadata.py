"""Metadata of videos: what a copy keeps of it, and timecodes, by which editors find frames again."""

import re
from collections.abc import Mapping
from fractions import Fraction

import av

KEPT = ("title", "artist", "copyright", "comment", "description", "date", "creation_time")


def kept_metadata(container: av.container.InputContainer, start: Fraction, rate: Fraction) -> dict[str, str]:
    """Of what begins `start` seconds later, at so many frames a second."""
    given = {key.lower(): value for key, value in container.metadata.items()}
    kept = {key: given[key] for key in KEPT if key in given}
    tracks: list[Mapping[str, str]] = [stream.metadata for stream in container.streams]
    codes = (value for tags in (given, *tracks) for key, value in tags.items() if key.lower() == "timecode")
    timecode = advanced(next(codes, ""), round(start * rate), rate)
    return kept | ({"timecode": timecode} if timecode else {})


def advanced(timecode: str, frames: int, rate: Fraction) -> str | None:
    """The timecode of so many frames later, HH:MM:SS:FF; None for what is none.

    With a semicolon it is that of NTSC, which leaves out numbers so that it goes with the clock: the first two frames
    of every minute, but for every tenth minute (of 59.94 frames a second, four).
    """
    match = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)", timecode)
    count = round(rate)
    if match is None or int(match[5]) >= count:
        return None
    dropping = match[4] != ":"
    if dropping and (count % 30 or rate.denominator != 1001):
        return None
    hours, minutes, seconds, frame = (int(match[group]) for group in (1, 2, 3, 5))
    dropped = count // 15 if dropping else 0  # a minute
    passed = 60 * hours + minutes
    number = (60 * passed + seconds) * count + frame - dropped * (passed - passed // 10) + frames
    ten_minutes = 600 * count - 9 * dropped
    tens, rest = divmod(number, ten_minutes)
    skipped = max(0, rest - dropped) // (60 * count - dropped)  # minutes of these ten that left numbers out
    number += dropped * (9 * tens + skipped)
    seconds, frame = divmod(number, count)
    fields = seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
    return ":".join(f"{field:02d}" for field in fields) + f"{';' if dropping else ':'}{frame:02d}"
