"""Jobs of many people: one after the other, within limits, and nothing left of them."""

import io
import struct
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.serve import jobs, requests, uploads
from rvm_jax.serve.jobs import Job, Service
from rvm_jax.serve.requests import Options
from rvm_jax.serve.uploads import Given, Limits
from rvm_jax.video import sink, source
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_matting import read
from tests.rvm_jax.video.test_pictures import POSTSCRIPT

COUNT = 5


@pytest.fixture
def service(matte) -> Iterator[Service]:
    with jobs.serving(matte, Limits(megabytes=1, seconds=10, side=100, waiting=2)) as service:
        yield service


def sent(service: Service, name: str = "clip.mp4", content: bytes | None = None) -> Given:
    """An upload: a clip of half a second, or a file with this content."""
    folder = service.folder / f"upload-{len(list(service.folder.iterdir()))}"
    folder.mkdir()
    path = folder / f"sent{Path(name).suffix}"
    if content is None:
        videos.write(path, videos.moving(COUNT), rate=10)
    else:
        path.write_bytes(content)
    return Given(path, name)


def finished(service: Service, job: Job) -> Job:
    while (progress := jobs.ask(service, job)).state in jobs.UNFINISHED:
        time.sleep(0.01)
    assert progress.state != "failed" or progress.message
    return job


class Gate:
    """Holds a job between its chunks until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        self.order: list[str] = []
        whole, look = requests.whole, requests.look

        def held(matte, order, folder, progress, stop):
            def stops() -> bool:
                self.reached.set()
                assert self.opened.wait(60)
                return stop()

            made = whole(matte, order, folder, progress, stops)
            self.order.append(folder.name)
            return made

        def noted(matte, order, folder):
            self.order.append(folder.name)
            return look(matte, order, folder)

        monkeypatch.setattr(requests, "whole", held)
        monkeypatch.setattr(requests, "look", noted)


@pytest.mark.parametrize(
    ("kind", "background", "name"),
    [
        ("mp4", "green", "matte.mp4"),
        ("mp4", "blur", "matte.mp4"),
        ("mov", "transparent", "matte.mov"),
        ("webm", "color", "matte.webm"),
        ("png", "transparent", "matte.zip"),
        ("mp4", "file", "matte.mp4"),
    ],
)
def test_what_is_made_is_what_matte_video_makes(service, matte, tmp_path, kind, background, name, monkeypatch):
    # With x264's macroblock tree, one in a hundred videos of the same pictures has other bits on a busy machine.
    monkeypatch.setitem(sink.FORMATS[".mp4"].options, "x264-params", "mbtree=0")
    picture = tmp_path / "behind.png"
    Image.fromarray(videos.moving(1)[0, :, ::-1]).save(picture)
    behind = sent(service, "behind.png", picture.read_bytes()) if background == "file" else None
    wishes = Options(sent(service), background, "rgba(30.2, 144, 255, 1)", behind, kind=kind)
    job = finished(service, jobs.submit(service, wishes))
    assert job.state == "done", job.message
    assert job.files["matte"].name == name
    suffix = "" if kind == "png" else f".{kind}"
    given = {"color": "#1e90ff", "file": str(picture)}.get(background, background)
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(COUNT), rate=10)
    options = {"weights": matte, "background": given, "alpha": tmp_path / "alpha.mp4"}
    matte_video(clip, tmp_path / f"out{suffix}", **options)
    written = job.files["matte"]
    if kind == "png":
        with zipfile.ZipFile(written) as archive:
            archive.extractall(tmp_path / "unzipped")
        written = tmp_path / "unzipped"
    for one, other in ((written, tmp_path / f"out{suffix}"), (job.files["alpha"], tmp_path / "alpha.mp4")):
        np.testing.assert_array_equal(read(one), read(other))
    assert read(job.files["view"]).shape == (COUNT, 48, 64, 3)
    assert job.folder.stat().st_mode & 0o077 == 0 or service.folder.stat().st_mode & 0o077 == 0


def test_what_is_transparent_is_shown_checkered(service):
    job = finished(service, jobs.submit(service, Options(sent(service), "transparent", kind="png")))
    with zipfile.ZipFile(job.files["matte"]) as archive, archive.open(archive.namelist()[0]) as file:
        pixels = np.asarray(Image.open(file)).astype(float)
    y, x = np.mgrid[:48, :64]
    board = np.where((y // 2 + x // 2) % 2, 204, 255)[..., None]
    expected = pixels[..., :3] * pixels[..., 3:] / 255 + board * (1 - pixels[..., 3:] / 255)
    assert np.abs(read(job.files["view"])[0] - expected).mean() < 8  # what colours at half size cost
    assert np.abs(np.roll(read(job.files["view"])[0], 2, 0) - expected).mean() > 10


def test_a_look_is_the_first_frame(service, matte, tmp_path):
    clip = sent(service)
    job = finished(service, jobs.submit(service, Options(clip, "blur", start=0.2, look=True)))
    assert job.state == "done", job.message
    options = {"background": "blur", "start": 0.2, "end": 0.3, "alpha": tmp_path / "alpha.png"}
    matte_video(clip.path, tmp_path / "first.png", weights=matte, **options)
    assert (np.asarray(Image.open(job.files["view"])) == np.asarray(Image.open(tmp_path / "first.png"))).all()
    assert (np.asarray(Image.open(job.files["alpha"])) == np.asarray(Image.open(tmp_path / "alpha.png"))).all()


def test_a_picture_becomes_a_picture(service):
    service.limits = Limits()
    picture = service.folder / "a.png"
    Image.fromarray(videos.moving(1)[0]).save(picture)
    job = finished(service, jobs.submit(service, Options(sent(service, "me.png", picture.read_bytes()), "transparent")))
    assert job.files["matte"].name == "matte.png"
    assert np.asarray(Image.open(job.files["matte"])).shape == (48, 64, 4)


def test_a_part(service):
    job = finished(service, jobs.submit(service, Options(sent(service), kind="mov", start=0.1, end=0.4)))
    assert len(read(job.files["matte"])) == 3


def test_details_are_sides_of_what_the_network_sees(service, monkeypatch):
    service.limits = Limits()
    wide = service.folder / "wide.png"
    Image.fromarray(np.zeros((1024, 2048, 3), np.uint8)).save(wide)
    ratios = []
    monkeypatch.setattr(requests, "whole", lambda matte, order, *_: ratios.append(order.ratio))
    for detail in ("faster", "automatic", "finer", "finest"):
        finished(service, jobs.submit(service, Options(sent(service, "w.png", wide.read_bytes()), detail=detail)))
    assert ratios == [384 / 2048, 512 / 2048, 768 / 2048, 1024 / 2048]


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
    given = sent(service, name, content(tmp_path / "song.mp4") if callable(content) else content)
    before = sorted(service.folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        jobs.submit(service, Options(given))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert str(service.folder) not in str(caught.value)
    assert sorted(service.folder.rglob("*")) == before


def test_a_cover_is_not_the_video(service, tmp_path):
    film = covered(videos.write(tmp_path / "in.mp4", videos.moving(COUNT), rate=10).read_bytes())
    with av.open(io.BytesIO(film)) as container:
        assert [stream.width for stream in container.streams.video] == [200, 64]
    job = jobs.submit(service, Options(sent(service, "album.mp4", film)))
    assert (job.order.source.height, job.order.source.width) == (48, 64)
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
        ({"background": "purple"}, "background purple: expected one of transparent, green, color, file, blur"),
        ({"background": "/etc/hostname"}, "background hostname: expected one of"),
        ({"background": "color", "color": "#12"}, "color #12: expected #rrggbb"),
        ({"background": "color", "color": "rgb(1.2.3, 4, 5)"}, "color rgb(1.2.3, 4, 5): expected"),
        ({"background": "file"}, "no background was given"),
        ({"background": "transparent"}, "an MP4 cannot be transparent"),
        ({"kind": "exe"}, "kind exe: expected one of mp4"),
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
    assert job.message == "It does not tell how long it is: at most 10 s of it were taken."


def test_files_that_were_not_sent_are_not_read(service, tmp_path):
    secret = videos.write(tmp_path / "secret.mp4", videos.moving(2))
    link = service.folder / "link.mp4"
    link.symlink_to(secret)
    for path in (secret, link, service.folder / ".." / secret, service.folder, tmp_path / "none"):
        with pytest.raises(InputError, match=r"is not here: send it"):
            jobs.submit(service, Options(Given(path, "secret.mp4")))


def test_playlists_are_not_followed(tmp_path):
    videos.write(tmp_path / "other.mp4", videos.moving(2))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with source.open_source(str(tmp_path / "list.mp4")) as followed:  # as FFmpeg does by itself
        assert followed.height == 48
    with pytest.raises(InputError, match=r"mine.mp4 cannot be read as a video"):
        uploads.examine(tmp_path / "list.mp4", "mine.mp4", Limits())


def test_a_damaged_video_tells_where_and_leaves_nothing(service, tmp_path):
    from tests.rvm_jax.video.test_source import faults

    (tmp_path / "in").mkdir()
    path, _ = faults(tmp_path / "in")["cut"]
    given = sent(service, "holiday.mp4", path.read_bytes())
    job = finished(service, jobs.submit(service, Options(given)))
    assert job.state == "failed"
    assert job.message.startswith("holiday.mp4 is damaged or cut short at ")
    assert "--" not in job.message
    assert list(service.folder.iterdir()) == [given.path.parent]


def test_a_job_that_breaks_tells_why_and_the_next_one_runs(service, monkeypatch, capsys):
    whole = requests.whole

    def broken(*_):
        raise MemoryError("out of memory: 99 GB\nmore")

    monkeypatch.setattr(requests, "whole", broken)
    job = finished(service, jobs.submit(service, Options(sent(service))))
    assert job.message == "the server could not do it: MemoryError: out of memory: 99 GB"
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(requests, "whole", whole)
    assert finished(service, jobs.submit(service, Options(sent(service)))).state == "done"


def test_one_runs_and_others_wait_but_previews_go_first(service, monkeypatch):
    gate = Gate(monkeypatch)
    first = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    second, third = (jobs.submit(service, Options(sent(service))) for _ in range(2))
    assert [jobs.ask(service, job).before for job in (first, second, third)] == [0, 1, 2]
    assert [job.state for job in (first, second, third)] == ["running", "waiting", "waiting"]
    with pytest.raises(InputError, match="2 jobs are waiting already: try again"):
        jobs.submit(service, Options(sent(service)))
    look = jobs.submit(service, Options(sent(service), look=True))
    gate.opened.set()
    assert all(finished(service, job).state == "done" for job in (look, first, second, third))
    assert gate.order == [job.name for job in (look, first, second, third)]


def test_progress_tells_frames_speed_and_what_is_left(service):
    job = Job("x", service.folder, None, "running")  # type: ignore[arg-type]
    job.done, job.expected, job.first = 30, 70, (time.monotonic() - 2, 10)
    progress = jobs.ask(service, job)
    assert progress.fps == pytest.approx(10, rel=0.01)
    assert progress.left == pytest.approx(4, rel=0.01)


def test_what_is_cancelled_leaves_nothing(service, monkeypatch):
    gate = Gate(monkeypatch)
    running = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    waiting = jobs.submit(service, Options(sent(service)))
    jobs.cancel(service, waiting)
    assert jobs.ask(service, waiting).state == "cancelled"  # at once
    assert not waiting.folder.exists()
    jobs.cancel(service, running)
    assert running.state == "running"
    gate.opened.set()
    assert finished(service, running).state == "cancelled"
    assert not running.folder.exists()


def test_what_waits_and_nobody_asks_for_makes_room(service, monkeypatch):
    gate = Gate(monkeypatch)
    running = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    left, other = (jobs.submit(service, Options(sent(service), look=look)) for look in (False, True))
    kept = jobs.submit(service, Options(sent(service)))
    for job in (left, other):
        job.asked -= jobs.ABANDONED + 1
    jobs.sweep(service)
    assert [job.state for job in (left, other, kept)] == ["cancelled", "cancelled", "waiting"]
    assert [job.folder.exists() for job in (left, other, kept)] == [False, False, True]
    assert jobs.ask(service, kept).before == 1
    gate.opened.set()
    assert [finished(service, job).state for job in (running, kept)] == ["done", "done"]


def test_those_who_come_at_once_are_counted_too(service, monkeypatch):
    gate = Gate(monkeypatch)
    running = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    given = sent(service)
    order = requests.request

    def slow(*arguments):
        """While its files are looked at, two others come."""
        monkeypatch.setattr(requests, "request", order)
        for _ in range(2):
            jobs.submit(service, Options(given))
        return order(*arguments)

    monkeypatch.setattr(requests, "request", slow)
    with pytest.raises(InputError, match="2 jobs are waiting already: try again"):
        jobs.submit(service, Options(given))
    folders = {job.name for job in (running, *service.waiting)}
    assert {path.name for path in service.folder.iterdir() if not path.name.startswith("upload")} == folders
    gate.opened.set()


def test_what_nobody_asks_for_is_given_up(service, monkeypatch):
    monkeypatch.setattr(jobs, "ABANDONED", 0.2)
    gate = Gate(monkeypatch)
    job = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    time.sleep(0.3)
    gate.opened.set()
    while job.state == "running":
        time.sleep(0.01)
    assert job.state == "cancelled"
    assert not job.folder.exists()


def test_files_go_after_a_while_and_soon_after_the_download(service):
    job = finished(service, jobs.submit(service, Options(sent(service))))
    jobs.sweep(service)
    assert job.files["matte"].exists()
    jobs.forget(service, job, seconds=0.3)
    jobs.sweep(service)
    assert job.files["matte"].exists()
    time.sleep(0.4)
    jobs.sweep(service)
    assert not job.folder.exists()
    with pytest.raises(InputError, match="there is no job"):
        jobs.find(service, job.name)
    service.limits = Limits(keep=0.01)
    time.sleep(0.1)
    jobs.sweep(service)
    assert not list(service.folder.iterdir())


def test_a_sweep_goes_on_when_something_vanishes_meanwhile(service, monkeypatch, tmp_path):
    job = finished(service, jobs.submit(service, Options(sent(service))))
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "sweep", lambda *_: jobs.forget(service, job))
        jobs.sweep(service)
    assert job.name not in service.jobs
    (tmp_path / "a").symlink_to(tmp_path / "vanished")
    (tmp_path / "b").touch()
    uploads.sweep(tmp_path, -1, set())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    uploads.expire(tmp_path / "vanished", 1, 2)


def test_a_sweep_that_breaks_is_told_and_the_next_one_comes(matte, monkeypatch, capsys):
    came, again = threading.Event(), threading.Event()

    def broken(service: Service) -> None:
        (again if came.is_set() else came).set()
        raise RuntimeError("a broom")

    monkeypatch.setattr(jobs, "SWEEP_EVERY", 0.01)
    monkeypatch.setattr(jobs, "sweep", broken)
    with jobs.serving(matte, Limits()):
        assert again.wait(10)
    assert "RuntimeError: a broom" in capsys.readouterr().err


def test_what_a_server_left_that_was_killed_is_removed(matte, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "rvm-serve-left" / "somebody").mkdir(parents=True)
    (tmp_path / "rvm-server-of-another-kind").mkdir()
    with jobs.serving(matte, Limits()) as one, jobs.serving(matte, Limits()) as other:
        kept = {one.folder.name, other.folder.name, "rvm-server-of-another-kind"}
        assert {path.name for path in tmp_path.iterdir()} == kept
    assert [path.name for path in tmp_path.iterdir()] == ["rvm-server-of-another-kind"]


def test_what_is_running_is_not_swept(service, monkeypatch):
    gate = Gate(monkeypatch)
    job = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    service.limits = Limits(keep=0.01)
    time.sleep(0.1)
    jobs.sweep(service)
    gate.opened.set()
    assert finished(service, job).state == "done"
    assert job.files["matte"].exists()


def test_two_who_send_the_same_file_do_not_take_it_from_each_other(service, monkeypatch):
    gate = Gate(monkeypatch)
    given = sent(service)
    first, second = (jobs.submit(service, Options(given)) for _ in range(2))
    uploads.remove(given.path.parent)
    gate.opened.set()
    assert all(finished(service, job).state == "done" for job in (first, second))


def test_all_is_gone_in_the_end_even_in_the_middle_of_a_job(matte, tmp_path):
    long = videos.write(tmp_path / "long.mp4", np.tile(videos.moving(50), (40, 1, 1, 1)))
    with jobs.serving(matte, Limits()) as service:
        job = jobs.submit(service, Options(sent(service, "long.mp4", long.read_bytes())))
        while not job.done:
            time.sleep(0.01)
    assert job.state == "cancelled"
    assert job.done < 2000
    assert not service.folder.exists()
