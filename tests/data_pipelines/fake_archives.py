"""Miniature archives in the layouts of their owners. Every frame shows its number, so that a wrong one is seen."""

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from PIL import ExifTags, Image

from data_pipelines.archives.clip import Record

HEIGHT, WIDTH = 96, 128
BITS = 8
OPEN_GOP = {"x265-params": "open-gop=1:keyint=8:min-keyint=4:bframes=4:b-pyramid=1:log-level=error:pools=1"}
CODECS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "h264": ("libx264", {"g": "10", "bf": "3"}),
    "hevc": ("libx265", {"x265-params": "open-gop=0:keyint=8:log-level=error:pools=1"}),
    "hevc_fast": ("libx265", {"x265-params": "log-level=error:pools=1", "preset": "ultrafast"}),
    "hevc_open_gop": ("libx265", OPEN_GOP),
    "vp9": ("libvpx-vp9", {}),
}


def stamped(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame, uint8 [H, W, 3], whose upper half tells its number in black and white columns; colours are below."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[..., 0] = np.linspace(0, 255, width)
    frame[..., 1] = np.linspace(255, 0, height)[:, None]
    frame[..., 2] = 40 + number % 100
    columns = np.arange(width) * BITS // width
    frame[: height // 2] = (255 * (number >> columns & 1))[None, :, None]
    return frame


def stamped_alpha(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """The same for an alpha, uint8 [H, W]: a ramp is below."""
    alpha = stamped(number, height, width)[..., 0]
    return np.ascontiguousarray(alpha)


def number_in(frame: np.ndarray) -> int:
    """The number that a frame [H, W] or [H, W, 3] shows."""
    height, width = frame.shape[:2]
    row = frame[height // 4].reshape(width, -1).mean(1)
    centres = (2 * np.arange(BITS) + 1) * width // (2 * BITS)
    return int(sum(1 << bit for bit in range(BITS) if row[centres[bit]] > 127))


def write_video(path: Path, frames: Iterable[np.ndarray], codec: str = "h264", *, pixels: str = "yuv420p") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder, options = CODECS[codec]
    frames = iter(frames)
    first = next(frames)
    # With its table at the start, a video that was cut short can still be opened.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream(encoder, rate=24, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixels
        for frame in itertools.chain([first], frames):
            rgb = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode())
    return path


def cut_video(source: Path, path: Path) -> Path:
    """Copy a video from its second key frame on, as cutting without encoding does."""
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        keys = 0
        for packet in given.demux(stream):
            keys += packet.is_keyframe
            if keys >= 2 and packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path


def turn_video(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write into an MP4 that x' = ax + cy, y' = bx + dy shows its frames as they are to be seen, with y down."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44  # where the matrix is: nine numbers of four bytes
    for place, number in ((0, a), (1, b), (3, c), (4, d)):
        content[at + 4 * place : at + 4 * place + 4] = (number << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    return path


def tag_picture(path: Path, orientation: int, **options: int) -> Path:
    """Give a picture an orientation tag; the pixels stay but for what JPEG does to them."""
    with Image.open(path) as image:
        image.load()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif, **options)
    return path


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)
    return path


def write_mode(path: Path, mode: str) -> Path:
    """A picture of a Pillow mode."""
    Image.fromarray(stamped(0)).convert("L" if mode == "I;16" else mode).convert(mode).save(path)
    return path


def digest(records: Iterable[Record]) -> str:
    """The checksum of a clip."""
    return hashlib.sha256(b"".join(record[name] for record in records for name in sorted(record))).hexdigest()


def write_pair(folder: Path, name: str, numbers: Sequence[int], **options: str) -> None:
    """A clip as `fgr/NAME` and `pha/NAME`: videos if the name ends in .mp4, otherwise folders of JPEGs."""
    for half, draw in (("fgr", stamped), ("pha", stamped_alpha)):
        if name.endswith(".mp4"):
            write_video(folder / half / name, (draw(number) for number in numbers), **options)
        else:
            for place, number in enumerate(numbers):
                write_picture(folder / half / name / f"{place:05d}.jpg", draw(number))


def video_matte_240k(manual: Path, *, kind: str = "", plus: int = 0) -> Path:
    """Four training clips, two of which become validation, and one test clip; `kind` is "_JPEG_SD" or "_JPEG_HD"."""
    suffix = "" if kind else ".mp4"
    options = {} if kind else {"codec": "hevc_open_gop"}
    root = manual / f"VideoMatte240K{kind}"
    for first, name in ((0, "0000"), (20, "0001"), (40, "0002"), (60, "0100")):
        write_pair(root / "train", name + suffix, range(plus + first, plus + first + 9 + first // 20), **options)
    write_pair(root / "test", "0000" + suffix, range(plus + 100, plus + 109), **options)
    return root


def write_sound(path: Path) -> Path:
    """A file without any picture."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.rate = 48000
        output.mux(stream.encode(silence))
        output.mux(stream.encode())
    return path
