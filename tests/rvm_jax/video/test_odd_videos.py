"""Healthy videos of unusual make, as phones, cameras, editors and cutters leave them: they are read whole."""

import io
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video.frames import Part, at_depth
from rvm_jax.video.matting import VideoResult, matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_source import difference, read

COUNT = 30
FRAMES = videos.moving(COUNT)
STEP = Fraction(1, 25)

Packets = list[tuple[bytes, int, int, bool]]
"""What is in each, its presentation and decoding time in frames, and whether a decoder can begin with it."""


def packets(path: Path) -> Packets:
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        return [
            (bytes(one), *(round((at or 0) * one.time_base / STEP) for at in (one.pts, one.dts)), one.is_keyframe)
            for one in found
        ]


def mux(path: Path, like: Path, given: Packets, **options: str) -> Path:
    """Write packets as they are, into the stream of a container that has no other."""
    with av.open(str(like)) as source, av.open(str(path), "w", options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for content, pts, dts, key in given:
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, STEP, key
            packet.pts, packet.dts, packet.duration = pts, dts, 1
            output.mux(packet)
    return path


def h264(folder: Path, name: str = "plain.mp4", **options: str) -> Path:
    return videos.write(folder / name, FRAMES, options={"crf": "5", "g": "10", "bf": "0", **options})


def patched(path: Path, place: int, new: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[place : place + len(new)] = new
    path.write_bytes(content)
    return path


def edited(path: Path, start: int, count: int) -> Path:
    """Let the edit list of an .mp4 show so many frames from `start` on."""
    place = path.read_bytes().index(b"elst") + 12
    _, first, _ = struct.unpack(">IiI", path.read_bytes()[place : place + 12])
    ticks = 12800 // 25  # the muxer's, of the track; those of an edit's length are the movie's
    return patched(path, place, struct.pack(">Ii", count * 1000 // 25, first + start * ticks))


def not_coded(folder: Path) -> Path:
    """MPEG-4 tells of a picture that is the one before by a bit."""
    path = videos.write(
        folder / "asp.avi", FRAMES, codec="mpeg4", options={"bf": "0", "qscale": "2", "flags": "qscale", "g": "100"}
    )
    content = packets(path)
    data, *rest = content[7]
    bits = "".join(f"{byte:08b}" for byte in data[4:12])
    assert data[:4] == b"\0\0\1\xb6"
    assert bits.startswith("010"), bits  # predicted, within the second
    head = bits[:3] + bits[3:10] + "0"  # a marker, the time in five bits, a marker, and: it is not coded
    padded = head + "0" + "1" * (7 - len(head) % 8)
    data = data[:4] + int(padded, 2).to_bytes(len(padded) // 8, "big")
    return mux(folder / "not_coded.mp4", path, [*content[:7], (data, *rest), *content[8:]])


def two_packets_a_frame(folder: Path) -> Path:
    """As H.264 has it that stores fields one by one: here every second packet has no picture."""
    options = {"bf": "0", "qscale": "2", "flags": "+qscale+ildct+ilme", "g": "100"}
    path = videos.write(folder / "fields.avi", FRAMES, codec="mpeg4", options=options)
    content = packets(path)
    empty = packets(not_coded(folder))[7][0]
    both = [(data, 2 * pts, 2 * dts, key) for data, pts, dts, key in content]
    between = [(empty, pts + 1, dts + 1, False) for _, pts, dts, _ in both]
    return mux(folder / "fields.mp4", path, [packet for pair in zip(both, between, strict=True) for packet in pair])


def from_the_middle(folder: Path, **options: str) -> Path:
    path = mux(folder / "whole.ts", h264(folder, **options), packets(h264(folder, **options)))
    content = path.read_bytes()
    (cut := folder / "middle.ts").write_bytes(content[len(content) // 188 // 4 * 188 :])
    return cut


def jpegs(path: Path, pictures: Iterable[Image.Image], **options: Any) -> Path:
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = videos.WIDTH, videos.HEIGHT, "yuvj420p"
        for number, picture in enumerate(pictures):
            file = io.BytesIO()
            picture.save(file, "JPEG", **options)
            packet = av.Packet(file.getvalue())
            packet.stream, packet.time_base = stream, STEP
            packet.pts = packet.dts = number
            output.mux(packet)
    return path


def wrong_duration(folder: Path) -> Path:
    path = mux(folder / "a.flv", h264(folder), packets(h264(folder)))
    place = path.read_bytes().index(b"duration") + len(b"duration")
    return patched(path, place, b"\0" + struct.pack(">d", 20.0))


def without_index(folder: Path) -> Path:
    content = encoded("a.avi", **MPEG4)(folder).read_bytes()
    (cut := folder / "cut.avi").write_bytes(content[: content.rindex(b"idx1")])
    return cut


def with_a_cover(folder: Path) -> Path:
    """The cover comes first."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "PNG")
    path = folder / "cover.mp4"
    with av.open(str(h264(folder))) as source, av.open(str(path), "w") as output:
        cover: Any = output.add_stream("png", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = output.add_stream_from_template(source.streams.video[0])
        packet = av.Packet(file.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, STEP
        output.mux(packet)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return path


MPEG4: dict[str, Any] = {"codec": "mpeg4", "options": {"qscale": "2", "flags": "qscale"}}


def encoded(name: str, **options: Any) -> Callable[[Path], Path]:
    return lambda folder: videos.write(folder / name, FRAMES, **options)


def remuxed(name: str, **options: str) -> Callable[[Path], Path]:
    return lambda folder: mux(folder / name, h264(folder), packets(h264(folder)), **options)


HEVC = {"codec": "libx265", "pixels": "yuv420p10le", "options": {"crf": "5", "x265-params": "log-level=none"}}
MPEG2: dict[str, Any] = {"codec": "mpeg2video", "options": {"qscale": "2", "flags": "qscale", "bf": "2"}}

WHOLE: dict[str, Callable[[Path], Path]] = {
    "fragments": remuxed("fragments.mp4", movflags="frag_keyframe+empty_moov"),
    "a live recording": remuxed("live.mkv", live="1"),
    "a wrong duration": wrong_duration,
    "without an index": without_index,
    "with a cover": with_a_cover,
    "a late start": encoded("a.mp4", times=range(50, 80), time_base=STEP),
    "frames out of order": encoded("a.avi", codec="mpeg4", options={**MPEG4["options"], "bf": "2"}),
    "a DVD's": encoded("a.mpg", **MPEG2),
    "a broadcast": encoded("a.ts", **MPEG2),
    "pictures in a film": encoded("a.mov", codec="png", pixels="rgb24"),
    "Motion JPEG": encoded("a.mov", codec="mjpeg", pixels="yuvj422p", options=MPEG4["options"]),
    "VP8": encoded("a.webm", codec="libvpx", options={"crf": "4", "b": "2000000"}),
    "ten bits of HEVC": encoded("a.mp4", **HEVC),
    "AV1": encoded("a.mp4", codec="libsvtav1", options={"crf": "10", "preset": "12"}),
    "ProRes": encoded("a.mov", codec="prores_ks", pixels="yuv422p10le"),
    "FFV1": encoded("a.mkv", codec="ffv1", pixels="yuv444p"),
}
TRIMMED: dict[str, tuple[dict[str, str], int, int]] = {
    "its end": ({}, 0, 14),
    "its end, in a long group": ({"g": "250"}, 0, 14),
    "its end, with frames out of order": ({"bf": "2"}, 0, 14),
    "its start": ({}, 13, 17),
}
"""Options of the encoder, and the first of the frames that are left, and how many they are."""


@pytest.mark.parametrize("kind", WHOLE)
def test_it_is_read_whole(kind, tmp_path):
    _, frames, _ = read(WHOLE[kind](tmp_path))
    assert len(frames) == COUNT
    assert difference([frame._replace(pixels=at_depth(frame.pixels, np.uint8)) for frame in frames], FRAMES) < 6


@pytest.mark.parametrize("trimmed", TRIMMED)
def test_what_an_edit_list_takes_off_is_not_missed(trimmed, tmp_path, capsys):
    options, start, count = TRIMMED[trimmed]
    _, frames, _ = read(edited(h264(tmp_path, **options), start, count))
    assert len(frames) == count
    assert difference(frames, FRAMES[start : start + count]) < 6
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*WHOLE, *TRIMMED])
def test_it_is_matted_whole(kind, matte, tmp_path):
    """Frame for frame, at the time of each."""
    options, start, count = TRIMMED.get(kind, ({}, 0, COUNT))
    made = WHOLE[kind](tmp_path) if kind in WHOLE else edited(h264(tmp_path, **options), start, count)
    source, frames, _ = read(made)
    assert matte_video(made, tmp_path / "out.mkv", weights=matte) == VideoResult(count, complete=True)
    written = videos.timing(tmp_path / "out.mkv")
    assert [round(at * 25) for at, _ in written] == [round(frame.time * source.time_base * 25) for frame in frames]


def test_a_cut_from_a_broadcast_begins_with_its_first_key_frame(tmp_path):
    _, frames, _ = read(from_the_middle(tmp_path))
    assert len(frames) == COUNT - 10
    assert difference(frames, FRAMES[10:]) < 6


def test_a_picture_that_is_not_coded(tmp_path, capsys):
    path = not_coded(tmp_path)
    _, frames, _ = read(path)
    assert len(frames) == COUNT - 1
    assert capsys.readouterr().err == f"{path}: 1 of {COUNT} stored frames have no picture\n"


def test_fields_that_have_packets_of_their_own_are_not_missed(tmp_path, capsys):
    path = two_packets_a_frame(tmp_path)
    _, frames, _ = read(path)
    assert COUNT <= len(frames) <= COUNT + 1
    assert capsys.readouterr().err == f"{path} is interlaced: it is deinterlaced\n"


def test_a_broadcast_without_key_frames_begins_where_it_can(tmp_path):
    path = from_the_middle(tmp_path, **{"g": "8", "x264-params": "intra-refresh=1:repeat-headers=1"})
    _, frames, _ = read(path)
    assert 10 < len(frames) < COUNT


def test_a_beginning_that_cannot_be_decoded_is_left_out(tmp_path, capsys):
    (first, *rest), *others = packets(h264(tmp_path))
    path = mux(tmp_path / "a.mkv", h264(tmp_path), [(first[:4] + bytes(len(first) - 4), *rest), *others])
    _, frames, _ = read(path)
    assert len(frames) == COUNT - 10
    assert difference(frames, FRAMES[10:]) < 6
    assert capsys.readouterr().err == f"{path}: nothing before 0.400 s can be decoded\n"


def test_a_camera_that_was_held_otherwise(tmp_path):
    """Each of its JPEGs has an EXIF tag that asks to turn it."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "a camera"
    path = jpegs(tmp_path / "camera.avi", map(Image.fromarray, FRAMES), exif=tags, quality=95)
    _, frames, _ = read(path)
    assert difference(frames, np.rot90(FRAMES, -1, (1, 2))) < 6


@pytest.mark.parametrize("start", [False, True])
def test_an_mp4_that_ends_before_its_index_does_is_damaged(tmp_path, start):
    content = packets(h264(tmp_path))
    path = mux(tmp_path / "fast.mp4", h264(tmp_path), content, movflags="+faststart")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(content[20][0])])  # between two packets
    if start:
        assert len(read(path, Part(Fraction(1, 5)))[1]) == 15
        return
    with pytest.raises(
        InputError, match=r"damaged or cut short at 0\.760 s: 20 of the 30 frames of its index are there; "
    ):
        read(path)


def test_a_frame_that_is_far_larger_than_the_header_says_is_not_decoded(tmp_path):
    small, large = (Image.new("RGB", size) for size in ((64, 48), (4104, 4104)))
    path = jpegs(tmp_path / "a.avi", [small, small, large])
    with pytest.raises(InputError, match=r"damaged or cut short at 0\.040 s: a frame is too large; "):
        read(path)
