"""Frames in: upright, in true colours, at their times; what is not sound is told in one line."""

import contextlib
import http.server
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import source
from rvm_jax.video.frames import WHOLE, Frame, Part, Size, Source
from tests.rvm_jax import videos

NTSC = Fraction(30000, 1001)


def read(path: Path | str, part: Part = WHOLE, **options) -> tuple[Source, list[Frame], list[av.Packet]]:
    with source.open_source(str(path), part, **options) as opened:
        items = list(opened.items)
        frames = [item for item in items if isinstance(item, Frame)]
        return opened, frames, [item for item in items if not isinstance(item, Frame)]


def difference(frames: list[Frame], expected: np.ndarray) -> float:
    return np.abs(np.stack([frame.pixels for frame in frames]).astype(int) - expected).mean()


def test_frames_come_in_order_with_what_a_copy_needs(tmp_path):
    clip = videos.moving(12)
    path = videos.write(tmp_path / "a.mp4", clip, rate=NTSC, aspect=Fraction(4, 3))
    opened, frames, _ = read(path)
    assert (opened.height, opened.width, opened.rate, opened.length) == (48, 64, NTSC, 12)
    assert opened.pixel_aspect == Fraction(4, 3)
    assert [frame.time * opened.time_base for frame in frames] == [number / NTSC for number in range(12)]
    assert {frame.duration * opened.time_base for frame in frames} == {1 / NTSC}
    assert [frame.name for frame in frames[:2]] == ["0000", "0001"]
    assert difference(frames, clip) < 3


def test_rates_that_matroska_rounds_are_found_again(tmp_path):
    opened, frames, _ = read(videos.write(tmp_path / "a.mkv", videos.moving(40), rate=NTSC))
    assert [frame.time * opened.time_base for frame in frames] == [number / NTSC for number in range(40)]
    assert {frame.duration * opened.time_base for frame in frames} == {1 / NTSC}


def test_times_of_no_regular_rate_are_kept(tmp_path):
    times = [0, 40, 41, 90, 200, 210]  # milliseconds
    for name in ("a.mkv", "a.mp4"):
        path = videos.write(tmp_path / name, videos.moving(6), times=times, time_base=Fraction(1, 1000))
        opened, frames, _ = read(path)
        assert [frame.time * opened.time_base * 1000 for frame in frames] == times


@pytest.mark.parametrize(("matrix", "levels"), [(1, 1), (6, 1), (6, 2), (9, 1)], ids=str)
def test_colors_are_those_that_players_show(tmp_path, matrix, levels):
    patches = np.array([[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 150, 100]], np.uint8)
    picture = np.repeat(np.repeat(patches.reshape(2, 3, 3), 16, 0), 16, 1)
    path = tmp_path / "a.mp4"
    pixels = "yuv420p" if levels == 1 else "yuvj420p"
    videos.write(path, [picture] * 2, pixels=pixels, colors=(matrix, levels), options={"crf": "1"})
    _, frames, _ = read(path)
    assert np.abs(frames[0].pixels[8::16, 8::16].astype(int) - patches.reshape(2, 3, 3)).max() <= 3


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_what_a_phone_held_otherwise_is_upright(tmp_path, rotation, turns):
    clip = videos.moving(3)
    opened, frames, _ = read(videos.write(tmp_path / "a.mp4", clip, rotation=rotation, aspect=Fraction(4, 3)))
    upright = np.rot90(clip, turns, (1, 2))
    assert (opened.height, opened.width) == upright.shape[1:3]
    assert opened.pixel_aspect == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))
    assert difference(frames, upright) < 3


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le", "yuv444p"])
def test_other_depths_and_odd_sides(tmp_path, pixels):
    clip = videos.moving(3, 48, 66)
    opened, frames, _ = read(videos.write(tmp_path / "a.mp4", clip, pixels=pixels))
    deep = "10" in pixels
    assert opened.deep == deep
    assert difference(frames, clip * np.uint16(257 if deep else 1)) < (3 * 257 if deep else 3)
    odd = videos.moving(3, 49, 65)
    _, frames, _ = read(videos.write(tmp_path / "odd.mkv", odd, codec="ffv1", pixels="bgr0"))
    assert difference(frames, odd) == 0


def test_a_part_begins_at_zero_and_takes_its_sound_along(tmp_path):
    clip = videos.moving(100)
    path = videos.write(tmp_path / "a.mp4", clip, sound="aac", options={"crf": "5", "g": "30"})
    opened, frames, packets = read(path, Part(Fraction(6, 5), Fraction(2)))
    assert difference(frames, clip[30:50]) < 3
    assert [frame.time * opened.time_base for frame in frames] == [Fraction(number, 25) for number in range(20)]
    assert opened.length == 20
    begins = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    assert 0 <= begins[0] < 0.03
    assert 0.75 < begins[-1] < 0.8


def test_sound_of_the_whole_is_as_it_was(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(20), sound="aac")
    _, _, packets = read(path)
    assert [((packet.pts or 0) * packet.time_base, bytes(packet)) for packet in packets] == videos.sound(path)


def test_frames_are_brought_to_a_size(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(2), aspect=Fraction(4, 3))
    opened, frames, _ = read(path, Part(size=Size(32)))
    assert frames[1].pixels.shape == (24, 32, 3)
    assert opened.pixel_aspect == Fraction(4, 3)
    opened, frames, _ = read(path, Part(size=Size(100, 20)))
    assert frames[1].pixels.shape == (20, 100, 3)
    assert opened.pixel_aspect == 1


def test_pictures_come_in_the_order_people_number_them(tmp_path):
    clip = videos.moving(12)
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    opened, frames, _ = read(tmp_path, rate=Fraction(10))
    assert (opened.rate, opened.length) == (10, 12)
    assert [frame.name for frame in frames] == [str(number) for number in range(12)]
    assert difference(frames, clip) == 0
    _, frames, _ = read(tmp_path, Part(Fraction(1, 2), Fraction(7, 10)), rate=Fraction(10))
    assert [frame.name for frame in frames] == ["5", "6"]


def test_one_picture_of_any_depth(tmp_path):
    gray = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    Image.fromarray(gray).save(tmp_path / "deep.png")
    _, (frame,), _ = read(tmp_path / "deep.png")
    assert (frame.pixels == gray[..., None]).all()


def test_one_frame_is_a_video(tmp_path):
    opened, frames, _ = read(videos.write(tmp_path / "a.mp4", videos.moving(1)))
    assert (len(frames), opened.length) == (1, 1)


def cut(path: Path, share: float) -> Path:
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return short


def faults(folder: Path) -> dict[str, tuple[Path, str]]:
    """Things that cannot be read, and what is told of each."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8)
    (folder / "text.mp4").write_text("this is no video at all\n" * 100)
    (folder / "empty.mp4").touch()
    (folder / "nothing").mkdir()
    (folder / "mixed").mkdir()
    for number, width in enumerate((64, 64, 70)):
        Image.fromarray(videos.moving(1, 48, width)[0]).save(folder / "mixed" / f"{number}.png")
    with av.open(str(folder / "sound.mp4"), "w") as output:
        videos._write_sound(output, output.add_stream("aac", rate=48000, layout="stereo"), 0.5)
    whole = videos.write(folder / "whole.mp4", noise)
    head_first = videos.write(folder / "head_first.mkv", noise)
    # Two streams of another size, one after the other, as an encoder that was started again leaves them.
    parts = [videos.write(folder / f"{width}.h264", videos.moving(5, 48, width)) for width in (64, 96)]
    (folder / "grows.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    return {
        "missing": (folder / "none.mp4", "does not exist"),
        "text": (folder / "text.mp4", "cannot be read as a video: it is of no kind that FFmpeg knows"),
        "empty": (folder / "empty.mp4", "cannot be read as a video: it is empty"),
        "empty folder": (folder / "nothing", "holds no pictures"),
        "mixed sizes": (folder / "mixed", "frame 2 .*70×48 pixels, those before it have 64×48: .*--resize 64x48"),
        "sound alone": (folder / "sound.mp4", "holds no video"),
        "cut before its index": (cut(whole, 0.6), "cannot be read as a video: its index is missing .* download"),
        "cut": (cut(head_first, 0.6), "is damaged or cut short at .* s: .*--end"),
        "changing size": (folder / "grows.h264", "frame 0005 of .* has 96×48 pixels, those before it have 64×48"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    return faults(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    "fault",
    ["missing", "text", "empty", "empty folder", "mixed sizes", "sound alone", "cut before its index", "cut",
     "changing size"],
)  # fmt: skip
def test_what_cannot_be_read_is_told_in_one_line(faulty, fault):
    path, message = faulty[fault]
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_size_mends_frames_of_several(faulty):
    for fault in ("mixed sizes", "changing size"):
        _, frames, _ = read(faulty[fault][0], Part(size=Size(32, 24)))
        assert {frame.pixels.shape for frame in frames} == {(24, 32, 3)}


def test_an_end_takes_what_is_sound_of_a_damaged_video(faulty):
    path, _ = faulty["cut"]
    with pytest.raises(InputError, match="--end") as caught:
        read(path)
    end = str(caught.value).rsplit(" ", 1)[1]
    _, frames, _ = read(path, Part(end=Fraction(end)))
    assert len(frames) > 20


def test_a_part_behind_the_end_is_told(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(10))
    with pytest.raises(InputError, match="has no frame that can be decoded: nothing is left by --start and --end"):
        read(path, Part(Fraction(20)))


def test_what_was_joined_from_several_goes_on_where_it_was(tmp_path):
    parts = [videos.write(tmp_path / f"{number}.ts", videos.moving(50), sound="aac") for number in range(3)]
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    opened, frames, packets = read(whole)
    times = [float(frame.time * opened.time_base) for frame in frames]
    assert times == pytest.approx([number / 25 for number in range(150)], abs=0.1)
    assert np.diff(times).min() > 0.03
    sounds = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    assert np.diff(sounds).min() > 0.01
    assert np.diff(sounds).max() < 0.1
    assert sounds[-1] == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("name", ["a.avi", "late.mkv"])
def test_headers_that_promise_too_much_are_not_believed(tmp_path, name):
    late = {"times": range(100_000, 100_010), "time_base": Fraction(1, 25)} if name == "late.mkv" else {}
    path = videos.write(tmp_path / name, videos.moving(10), sound="aac", options={"crf": "5", "bf": "0"}, **late)
    assert len(read(path)[1]) == 10


def unknown(path: Path, known: bytes, name: bytes) -> Path:
    """A file of which one codec is none that anybody knows."""
    content = path.read_bytes()
    assert content.count(known) == 1
    path.write_bytes(content.replace(known, name))
    return path


def test_sound_of_an_unknown_kind_is_left_out(tmp_path, capsys):
    path = unknown(videos.write(tmp_path / "a.mkv", videos.moving(10), sound="aac"), b"A_AAC", b"A_XYZ")
    opened, frames, _ = read(path)
    assert (len(frames), opened.sounds) == (10, ())
    assert capsys.readouterr().err == f"{path}: sound of a kind that FFmpeg does not know is left out\n"


def test_video_of_an_unknown_kind_is_told(tmp_path):
    path = unknown(videos.write(tmp_path / "a.mov", videos.moving(10)), b"avc1", b"none")
    with pytest.raises(InputError, match="holds video of a kind that FFmpeg does not know"):
        read(path)


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "~nobody-of-this-name/a.mp4"])
def test_names_that_cannot_be_are_told(name):
    with pytest.raises(InputError, match="cannot be read: "):
        read(name)


def test_a_start_in_what_cannot_be_sought_is_found_by_reading(tmp_path):
    path = videos.write(tmp_path / "a.h264", videos.moving(20))
    assert len(read(path, Part(Fraction(2, 5)))[1]) == 10


class Broken(http.server.BaseHTTPRequestHandler):
    """Hands out the first part of a file and hangs up."""

    content = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) * 3 // 4])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_stream_that_breaks_off_has_an_end(tmp_path, monkeypatch, capsys, interlaced):
    """It ends with the last frame that came whole, though a decoder and a filter hold some back."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8)
    options = {"crf": "5", **({"x264-params": "interlaced=1:tff=1"} if interlaced else {})}
    path = videos.write(tmp_path / "a.mkv", noise, options=options)
    monkeypatch.setattr(Broken, "content", path.read_bytes())
    with contextlib.suppress(av.FFmpegError), av.open(str(cut(path, 3 / 4))) as container:
        came = sum(packet.size > 0 for packet in container.demux(video=0))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/a.mkv"
        _, frames, _ = read(address)
    finally:
        server.shutdown()
        server.server_close()
    assert 30 < len(frames) < 60
    assert came - 1 <= len(frames) <= came  # the last of them may be half a packet
    expected = np.stack([frame.pixels for frame in read(path)[1]][: len(frames) - interlaced])
    assert difference(frames[: len(expected)], expected) == 0
    assert f"{address} broke off: " in capsys.readouterr().err
