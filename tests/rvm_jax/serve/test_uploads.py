"""What is uploaded: what cannot be matted is refused in one line, within limits, and nothing else is read."""

import io
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.serve import jobs, requests, uploads
from rvm_jax.serve.requests import Options
from rvm_jax.serve.uploads import Limits, Upload
from rvm_jax.video import source
from rvm_jax.video.writing import picture_encoding
from tests.rvm_jax import videos
from tests.rvm_jax.serve.submitting import COUNT, finished, sent
from tests.rvm_jax.video.test_matting import read
from tests.rvm_jax.video.test_pictures import POSTSCRIPT


def sound(path: Path) -> bytes:
    videos.write(path, videos.moving(COUNT), rate=10, sound="aac")
    only = path.with_name("only.mp4")
    with av.open(str(path)) as source, av.open(str(only), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return only.read_bytes()


def covered(film: bytes) -> bytes:
    """An MP4 with a cover picture of 200 x 160 before all that it holds."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">I", len(content) + 8) + kind + content

    picture = io.BytesIO()
    Image.new("RGB", (200, 160)).save(picture, "PNG")
    handler = box(b"hdlr", bytes(8), b"mdirappl", bytes(9))
    cover = box(b"covr", box(b"data", struct.pack(">II", 14, 0), picture.getvalue()))
    begin = film.rindex(b"moov")
    header = film[begin + 4 :]
    tracks = header.index(b"trak") - 4
    told = box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", cover)))
    return film[: begin - 4] + box(b"moov", header[:tracks], told, header[tracks:])


def unknown(path: Path) -> bytes:
    """A video in a codec that nobody knows."""
    return videos.write(path, videos.moving(COUNT)).read_bytes().replace(b"avc1", b"zzzz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"no video at all", "notes.mp4 cannot be read as a video: expected an MP4, "),
        ("none.mp4", b"", "none.mp4 is empty: "),
        ("none.png", b"", "none.png is empty: "),
        ("large.mp4", bytes(1_100_000), "large.mp4 has 1 MB: expected at most 1 MB"),
        ("song.mp4", sound, "song.mp4 holds no video, only sound or the like"),
        ("album.mp4", lambda path: covered(sound(path)), "album.mp4 holds no video, only sound or the like"),
        ("new.mp4", unknown, "new.mp4 holds a video that cannot be decoded"),
        ("torn.png", b"\x89PNG\r\n\x1a\n", "torn.png cannot be read as a picture"),
        ("program.png", POSTSCRIPT, "program.png cannot be read as a picture"),
        ("../../etc/x\n.mp4", b"no video", "x.mp4 cannot be read as a video"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_matted_is_refused_in_one_line(service, tmp_path, name, content, message):
    content = content(tmp_path / "song.mp4") if callable(content) else content
    with pytest.raises(InputError) as caught:
        jobs.submit(service, Options(sent(service, name, content)))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert str(service.folder) not in str(caught.value)
    assert {path.name for path in service.folder.iterdir()} == set(service.uploads)


def test_a_cover_is_not_the_video(service, tmp_path):
    film = covered(videos.write(tmp_path / "in.mp4", videos.moving(COUNT), rate=10).read_bytes())
    with av.open(io.BytesIO(film)) as container:
        assert [stream.width for stream in container.streams.video] == [200, 64]
    job = jobs.submit(service, Options(sent(service, "album.mp4", film)))
    assert (job.request.source.height, job.request.source.width) == (48, 64)
    assert read(finished(service, job).files["matte"]).shape == (COUNT, 48, 64, 3)


def test_what_breaks_while_files_are_looked_at_is_told_in_one_line(service, monkeypatch, capsys):
    def broken(*_: object) -> None:
        raise RuntimeError("what\nnow")

    monkeypatch.setattr(uploads, "examine", broken)
    given = sent(service)
    with pytest.raises(InputError, match=r"^the server could not do it: RuntimeError: what$"):
        jobs.submit(service, Options(given))
    assert "Traceback" in capsys.readouterr().err
    assert list(service.folder.iterdir()) == [given.path.parent]


def test_a_full_disk_is_told_before_anything_is_taken(service, monkeypatch):
    given = sent(service)
    monkeypatch.setattr(uploads, "RESERVE", 10**18)
    with pytest.raises(InputError, match=r"^the disk of this server is full: try again later$"):
        jobs.submit(service, Options(given))
    assert list(service.folder.iterdir()) == [given.path.parent]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": "purple"}, "background purple: expected transparent, green, blur, #rrggbb or a file"),
        ({"background": "/etc/hostname"}, "background hostname: expected"),
        ({"background": "#12"}, "background #12: expected"),
        ({"background": "transparent"}, "an MP4 cannot be transparent"),
        ({"format": "exe"}, "format exe: expected one of mp4"),
        ({"detail": "best"}, "detail best: expected one of faster"),
        ({"start": 3.0}, "clip.mp4 lasts 0.5 s: start before that"),
        ({"start": 0.4, "end": 0.2}, "start 0.4, end 0.2: expected seconds"),
        ({"start": -1.0}, "start -1: expected seconds"),
        ({"start": float("nan")}, "start nan: expected seconds"),
    ],
    ids=str,
)
def test_wishes_that_cannot_be_are_refused(service, options, message):
    given = sent(service)
    with pytest.raises(InputError) as caught:
        jobs.submit(service, Options(given, **options))
    assert str(caught.value).startswith(message)
    assert list(service.folder.iterdir()) == [given.path.parent]


def test_sizes_and_lengths_have_limits(service, tmp_path):
    wide = videos.write(tmp_path / "wide.mp4", videos.moving(2, 48, 128)).read_bytes()
    with pytest.raises(InputError, match=r"wide.mp4 has 128×48 pixels: expected at most 100 on the longer side"):
        jobs.submit(service, Options(sent(service, "wide.mp4", wide)))
    for aspect, size in ((Fraction(40), "2560×48"), (Fraction(1, 40), "64×1920")):
        shaped = videos.write(tmp_path / "shaped.mp4", videos.moving(2), aspect=aspect).read_bytes()
        with pytest.raises(InputError, match=rf"shaped.mp4 has {size} pixels, if they are made square: expected at"):
            jobs.submit(service, Options(sent(service, "shaped.mp4", shaped)))
    long = videos.write(tmp_path / "long.mp4", videos.moving(24), rate=2).read_bytes()
    with pytest.raises(InputError, match=r"long.mp4: 12 s are to be matted, expected at most 10 s"):
        jobs.submit(service, Options(sent(service, "long.mp4", long)))
    assert finished(service, jobs.submit(service, Options(sent(service, "long.mp4", long), end=2.0))).done == 4
    just = videos.write(tmp_path / "just.mp4", videos.moving(20), rate=2).read_bytes()
    assert finished(service, jobs.submit(service, Options(sent(service, "just.mp4", just)))).done == 20


def test_what_does_not_tell_its_length_is_cut_at_the_limit_and_that_is_told(service, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "_seconds", lambda container: None)
    long = videos.write(tmp_path / "long.mp4", videos.moving(24), rate=2).read_bytes()
    job = finished(service, jobs.submit(service, Options(sent(service, "long.mp4", long))))
    assert job.done == 20
    assert job.warnings == ["It is not known how long it is: at most 10 s of it are taken."]


def test_an_upload_comes_in_pieces_of_the_announced_length(service):
    upload = uploads.begin(service, "ann", "a.mp4", 6)
    uploads.append(service, upload, b"abcd")
    with pytest.raises(InputError, match=r"^a.mp4 is not here in whole: send what comes after byte 4$"):
        jobs.submit(service, Options(upload), "ann")
    with pytest.raises(InputError, match=r"^a.mp4 is longer than the 6 bytes that were announced$"):
        uploads.append(service, upload, b"efg")
    with uploads.appending(service, upload), pytest.raises(InputError, match="send one after the other"):
        uploads.appending(service, upload).__enter__()
    uploads.append(service, upload, b"ef")
    assert upload.path.read_bytes() == b"abcdef"
    uploads.discard(service, upload)
    with pytest.raises(InputError, match=r"^a.mp4 is not here \(any more\): send it again$"):
        jobs.submit(service, Options(upload), "ann")
    assert not list(service.folder.iterdir())


def test_what_is_announced_has_its_room_on_the_disk(service, monkeypatch):
    free = uploads.RESERVE + 2_500_000
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    first, second = (uploads.begin(service, person, "a.mp4", 1_000_000) for person in ("ann", "bob"))
    with pytest.raises(InputError, match="the disk of this server is full"):
        uploads.begin(service, "eve", "a.mp4", 1_000_000)
    with uploads.room_for(service, 500_000), pytest.raises(InputError, match="the disk of this server is full"):
        uploads.begin(service, "eve", "a.mp4", 1)
    uploads.discard(service, second)
    uploads.append(service, first, b"a")
    assert uploads.begin(service, "eve", "a.mp4", 1_000_000).size == 1_000_000


def test_a_person_may_have_so_many_files(service, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_UPLOADS", 2)
    for _ in range(2):
        uploads.begin(service, "ann", "a.mp4", 1)
    with pytest.raises(InputError, match="2 of your files are here already"):
        uploads.begin(service, "ann", "a.mp4", 1)
    uploads.begin(service, "bob", "a.mp4", 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no video was given: send one"),
        ({"video": "a", "kind": "mp4"}, "there is no option kind: expected video, background, plate, align_plate"),
        ({"video": "a", "start": "soon"}, "start soon: expected seconds, such as 1.5"),
        ({"video": "a", "start": [1]}, "start [1]: expected seconds"),
    ],
    ids=str,
)
def test_options_that_are_none_are_refused(given, message):
    with pytest.raises(InputError) as caught:
        requests.parse(given, lambda name: Upload(Path(name), name, "", 1))
    assert str(caught.value).startswith(message)


def test_playlists_are_not_followed(tmp_path):
    videos.write(tmp_path / "other.mp4", videos.moving(2))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with source.open_source(str(tmp_path / "list.mp4")) as followed:  # as FFmpeg does by itself
        assert followed.height == 48
    with pytest.raises(InputError, match=r"mine.mp4 cannot be read as a video"):
        uploads.examine(tmp_path / "list.mp4", "mine.mp4", Limits())


def deep_png() -> bytes:
    return picture_encoding.encoded(videos.moving(1)[0] * np.uint16(257), ".png")


@pytest.mark.parametrize("preview", [False, True])
def test_a_picture_of_16_bits_is_shown_as_others(service, monkeypatch, preview):
    monkeypatch.setattr(requests, "LOOK_EVERY", -1)
    given = sent(service, "deep.png", deep_png())
    job = finished(service, jobs.submit(service, Options(given, preview=preview)))
    assert (job.state, job.error) == ("done", None)
    with Image.open(job.files["preview"]) as shown:
        assert shown.size == (64, 48)


def test_what_needs_other_programs_is_counted_as_one(service, tmp_path):
    shallow = io.BytesIO()
    Image.fromarray(videos.moving(1)[0]).save(shallow, "PNG")
    pictures = [sent(service, "a.png", content) for content in (shallow.getvalue(), deep_png())]
    tens = videos.write(tmp_path / "tens.mp4", videos.moving(2), pixels="yuv420p10le").read_bytes()
    clip = sent(service)
    different = [
        Options(clip),
        Options(sent(service, "tens.mp4", tens)),
        *map(Options, pictures),
        Options(clip, preview=True),
        Options(clip, format="webm"),
        *(Options(clip, behind) for behind in ("blur", clip, *pictures)),
        Options(clip, "transparent", format="webm"),
    ]

    def program(number: int, options: Options) -> object:
        folder = tmp_path / str(number)
        folder.mkdir()
        return requests.validate(options, folder, service.limits, service.matte).program

    programs = [program(*numbered) for numbered in enumerate(different)]
    assert len(set(programs)) == len(different)
    assert program(99, Options(clip, "#1e90ff")) == programs[0]
