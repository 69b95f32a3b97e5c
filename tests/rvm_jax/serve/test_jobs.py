"""Jobs of many people: one after the other, within limits, and nothing left of them."""

import io
import tempfile
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.serve import jobs, requests, uploads
from rvm_jax.serve.jobs import Job, Service
from rvm_jax.serve.requests import Options
from rvm_jax.serve.uploads import Limits
from rvm_jax.video import sink
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.serve.submitting import COUNT, finished, sent
from tests.rvm_jax.video.test_matting import read


class Gate:
    """Holds a job between its chunks until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        self.order: list[str] = []
        whole, look = requests.make_matte, requests.make_preview

        def held(matte, order, folder, progress, stop, look):
            def stops() -> bool:
                self.reached.set()
                assert self.opened.wait(60)
                return stop()

            made = whole(matte, order, folder, progress, stops, look)
            self.order.append(folder.name)
            return made

        def noted(matte, order, folder):
            self.order.append(folder.name)
            return look(matte, order, folder)

        monkeypatch.setattr(requests, "make_matte", held)
        monkeypatch.setattr(requests, "make_preview", noted)


class Clock:
    """Stands in for `time`, and stands still unless `passed`, in seconds, is moved."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._start = time.time(), time.monotonic()

    def time(self) -> float:
        return self._start[0] + self.passed

    def monotonic(self) -> float:
        return self._start[1] + self.passed


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """What the service takes for the time."""
    clock = Clock()
    for module in (jobs, uploads):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("kind", "background", "name"),
    [
        ("mp4", "green", "matte.mp4"),
        ("mp4", "blur", "matte.mp4"),
        ("mov", "transparent", "matte.mov"),
        ("webm", "#1e90ff", "matte.webm"),
        ("png", "transparent", "matte.zip"),
        ("mp4", "file", "matte.mp4"),
    ],
)
def test_what_is_made_is_what_matte_video_makes(service, matte, tmp_path, kind, background, name, monkeypatch):
    # With x264's macroblock tree, one in a hundred videos of the same pictures has other bits on a busy machine.
    monkeypatch.setitem(sink.FORMATS[".mp4"].options, "x264-params", "mbtree=0")
    picture = tmp_path / "behind.png"
    Image.fromarray(videos.moving(1)[0, :, ::-1]).save(picture)
    behind = sent(service, "behind.png", picture.read_bytes()) if background == "file" else background
    job = finished(service, jobs.submit(service, Options(sent(service), behind, format=kind)))
    assert job.state == "done", job.error
    assert job.files["matte"].name == name
    suffix = "" if kind == "png" else f".{kind}"
    given = str(picture) if background == "file" else background
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
    assert read(job.files["preview"]).shape == (COUNT, 48, 64, 3)


def test_nobody_else_may_read_the_files(service):
    assert service.folder.stat().st_mode & 0o077 == 0
    job = finished(service, jobs.submit(service, Options(sent(service))))
    assert all(path.is_relative_to(service.folder) for path in job.files.values())


def test_what_is_transparent_is_shown_checkered(service):
    job = finished(service, jobs.submit(service, Options(sent(service), "transparent", format="png")))
    with zipfile.ZipFile(job.files["matte"]) as archive, archive.open(archive.namelist()[0]) as file:
        pixels = np.asarray(Image.open(file)).astype(float)
    y, x = np.mgrid[:48, :64]
    board = np.where((y // 2 + x // 2) % 2, 204, 255)[..., None]
    expected = pixels[..., :3] * pixels[..., 3:] / 255 + board * (1 - pixels[..., 3:] / 255)
    assert np.abs(read(job.files["preview"])[0] - expected).mean() < 8  # what colours at half size cost
    assert np.abs(np.roll(read(job.files["preview"])[0], 2, 0) - expected).mean() > 10


def test_a_preview_is_the_first_frame(service, matte, tmp_path):
    clip = sent(service)
    job = finished(service, jobs.submit(service, Options(clip, "blur", start=0.2, preview=True)))
    assert job.state == "done", job.error
    options = {"background": "blur", "start": 0.2, "end": 0.3, "alpha": tmp_path / "alpha.png"}
    matte_video(clip.path, tmp_path / "first.png", weights=matte, **options)
    shown, expected = (
        np.asarray(Image.open(path)).astype(int) for path in (job.files["preview"], tmp_path / "first.png")
    )
    assert np.abs(shown - expected).mean() < 3  # what JPEG costs
    assert (np.asarray(Image.open(job.files["alpha"])) == np.asarray(Image.open(tmp_path / "alpha.png"))).all()


def test_the_newest_frame_is_shown_while_a_job_runs(service, monkeypatch):
    monkeypatch.setattr(requests, "LOOK_EVERY", -1)
    gate = Gate(monkeypatch)
    job = jobs.submit(service, Options(sent(service), "#0000ff", format="mov"))
    assert gate.reached.wait(60)
    with Image.open(job.files["preview"]) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))
    gate.opened.set()
    assert finished(service, job).files["preview"].suffix == ".mp4"


def test_a_picture_becomes_a_picture(service):
    service.limits = Limits()
    picture = io.BytesIO()
    Image.fromarray(videos.moving(1)[0]).save(picture, "PNG")
    job = finished(service, jobs.submit(service, Options(sent(service, "me.png", picture.getvalue()), "transparent")))
    assert job.files["matte"].name == "matte.png"
    assert np.asarray(Image.open(job.files["matte"])).shape == (48, 64, 4)


def test_a_part(service):
    job = finished(service, jobs.submit(service, Options(sent(service), format="mov", start=0.1, end=0.4)))
    assert len(read(job.files["matte"])) == 3


def test_details_are_sides_of_what_the_network_sees(service, monkeypatch):
    service.limits = Limits()
    wide = io.BytesIO()
    Image.fromarray(np.zeros((1024, 2048, 3), np.uint8)).save(wide, "PNG")
    ratios = []
    monkeypatch.setattr(requests, "make_matte", lambda matte, order, *_: ratios.append(order.ratio))
    for detail in ("faster", "automatic", "finer", "finest"):
        finished(service, jobs.submit(service, Options(sent(service, "w.png", wide.getvalue()), detail=detail)))
    assert ratios == [384 / 2048, 512 / 2048, 768 / 2048, 1024 / 2048]


def test_a_damaged_video_tells_where_and_leaves_nothing(service, tmp_path):
    from tests.rvm_jax.video.test_source import faults

    (tmp_path / "in").mkdir()
    path, _ = faults(tmp_path / "in")["cut"]
    given = sent(service, "holiday.mp4", path.read_bytes())
    job = finished(service, jobs.submit(service, Options(given)))
    assert job.state == "failed"
    assert job.error.startswith("holiday.mp4 is damaged or cut short at ")
    assert "--" not in job.error
    assert list(service.folder.iterdir()) == [given.path.parent]


def test_a_job_that_breaks_tells_why_and_the_next_one_runs(service, monkeypatch, capsys):
    whole = requests.make_matte

    def broken(*_):
        raise MemoryError("out of memory: 99 GB\nmore")

    monkeypatch.setattr(requests, "make_matte", broken)
    job = finished(service, jobs.submit(service, Options(sent(service))))
    assert job.error == "the server could not do it: MemoryError: out of memory: 99 GB"
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(requests, "make_matte", whole)
    assert finished(service, jobs.submit(service, Options(sent(service)))).state == "done"


def test_one_runs_and_others_wait_but_previews_go_first(service, monkeypatch):
    gate = Gate(monkeypatch)
    first = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    second, third = (jobs.submit(service, Options(sent(service))) for _ in range(2))
    assert [jobs.place(service, job) for job in (first, second, third)] == [None, 1, 2]
    assert [job.state for job in (first, second, third)] == ["running", "waiting", "waiting"]
    look = jobs.submit(service, Options(sent(service), preview=True))
    gate.opened.set()
    assert all(finished(service, job).state == "done" for job in (look, first, second, third))
    assert gate.order == [job.id for job in (look, first, second, third)]


def test_people_take_turns_and_each_one_may_have_a_share(service, monkeypatch):
    gate = Gate(monkeypatch)
    video = sent(service)

    def submit(person: str) -> Job:
        return jobs.submit(service, Options(video), person)

    first = submit("ann")
    assert gate.reached.wait(60)
    ann, ann_too = submit("ann"), submit("ann")
    with pytest.raises(InputError, match="2 of your jobs are waiting already: try again"):
        submit("ann")
    bob, eve = submit("bob"), submit("eve")
    with pytest.raises(InputError, match="4 jobs are waiting already: try again"):
        submit("joe")
    assert [jobs.place(service, job) for job in (bob, eve, ann, ann_too)] == [1, 2, 3, 4]
    gate.opened.set()
    assert all(finished(service, job).state == "done" for job in (first, ann, ann_too, bob, eve))
    assert gate.order == [job.id for job in (first, bob, eve, ann, ann_too)]


def test_a_person_finds_only_their_own(service, monkeypatch):
    gate = Gate(monkeypatch)
    job = jobs.submit(service, Options(sent(service, person="ann")), "ann")
    (upload,) = service.uploads.values()
    assert jobs.find(service, job.id, "ann") is job
    assert uploads.find(service, upload.id, "ann") is upload
    for person in ("bob", ""):
        with pytest.raises(InputError, match="there is no job"):
            jobs.find(service, job.id, person)
        with pytest.raises(InputError, match="there is no file"):
            uploads.find(service, upload.id, person)
    gate.opened.set()


def test_work_of_a_camera_goes_between_two_chunks(service, monkeypatch):
    gate = Gate(monkeypatch)
    job = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    done = []
    works = [jobs.soon(service, lambda: done.append(job.done) or job.state) for _ in range(2)]
    gate.opened.set()
    assert [work.result(60) for work in works] == ["running", "running"]
    assert done[0] < done[1]  # one after each chunk
    assert finished(service, job).done == COUNT
    assert jobs.soon(service, lambda: "idle").result(60) == "idle"
    with pytest.raises(ZeroDivisionError):
        jobs.soon(service, lambda: 1 // 0).result(60)


def test_speed_and_what_is_left(service, clock):
    job = Job("x", "", service.folder, None, "running")  # type: ignore[arg-type]
    assert jobs.speed(job) == (None, None)
    job.done, job.expected, job.first = 30, 70, (clock.monotonic() - 2, 10)
    assert jobs.speed(job) == (pytest.approx(10), pytest.approx(4))


def test_what_is_cancelled_leaves_nothing(service, monkeypatch):
    gate = Gate(monkeypatch)
    running = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    waiting = jobs.submit(service, Options(sent(service)))
    jobs.forget(service, waiting)
    assert waiting.state == "cancelled"  # at once
    assert not waiting.folder.exists()
    jobs.forget(service, running)
    assert running.state == "running"
    gate.opened.set()
    assert finished(service, running).state == "cancelled"
    assert not running.folder.exists()
    jobs.forget(service, running)
    assert running.id not in service.jobs


def test_those_who_come_at_once_are_counted_too(service, monkeypatch):
    gate = Gate(monkeypatch)
    running = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    given = sent(service)
    order = requests.validate

    def slow(*arguments):
        """While its files are looked at, two others come."""
        monkeypatch.setattr(requests, "validate", order)
        for _ in range(2):
            jobs.submit(service, Options(given))
        return order(*arguments)

    monkeypatch.setattr(requests, "validate", slow)
    with pytest.raises(InputError, match="2 of your jobs are waiting already: try again"):
        jobs.submit(service, Options(given))
    folders = {job.id for job in (running, *service.waiting)} | set(service.uploads)
    assert {path.name for path in service.folder.iterdir()} == folders
    gate.opened.set()


def test_a_disk_that_gets_full_ends_the_job(service, monkeypatch):
    gate = Gate(monkeypatch)
    video = sent(service)
    job = jobs.submit(service, Options(video))
    assert gate.reached.wait(60)
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "RESERVE", 10**18)
        gate.opened.set()
        assert finished(service, job).state == "failed"
    assert job.error == "the disk of this server is full: try again later"
    assert list(service.folder.iterdir()) == [video.path.parent]


def test_files_go_after_a_while_in_which_nobody_used_them(service, clock):
    video = sent(service)
    job, other = (finished(service, jobs.submit(service, Options(video))) for _ in range(2))
    clock.passed = service.limits.keep - 1
    jobs.sweep(service)
    assert job.files["matte"].exists()
    other.touched = clock.monotonic()
    clock.passed += 2
    jobs.sweep(service)
    assert list(service.folder.iterdir()) == [other.folder]
    assert (service.jobs, service.uploads, set(service.served)) == ({other.id: other}, {}, {""})
    clock.passed += service.limits.keep
    jobs.sweep(service)
    assert (service.jobs, service.uploads, service.served) == ({}, {}, {})
    assert not list(service.folder.iterdir())


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


def test_what_is_running_is_not_swept(service, monkeypatch, clock):
    gate = Gate(monkeypatch)
    job = jobs.submit(service, Options(sent(service)))
    assert gate.reached.wait(60)
    clock.passed += service.limits.keep + 60
    jobs.sweep(service)
    assert service.uploads == {}
    gate.opened.set()
    assert finished(service, job).state == "done"
    assert job.files["matte"].exists()


def test_a_job_keeps_the_file_that_was_removed(service, monkeypatch):
    gate = Gate(monkeypatch)
    given = sent(service)
    first, second = (jobs.submit(service, Options(given)) for _ in range(2))
    uploads.discard(service, given)
    gate.opened.set()
    assert all(finished(service, job).state == "done" for job in (first, second))


def test_programs_are_dropped_before_they_are_too_many(service, monkeypatch):
    dropped = []
    monkeypatch.setattr(jobs.jax, "clear_caches", lambda: dropped.append(len(service.programs)))
    for size in [*range(jobs.MOST_PROGRAMS), 3, 99, 3]:
        jobs.limit_programs(service, size, 1.0)
    assert dropped == [jobs.MOST_PROGRAMS]
    assert service.programs == {(99, 1.0), (3, 1.0)}


def test_all_is_gone_in_the_end_even_in_the_middle_of_a_job(matte, tmp_path):
    long = videos.write(tmp_path / "long.mp4", np.tile(videos.moving(50), (40, 1, 1, 1)))
    with jobs.serving(matte, Limits()) as service:
        job = jobs.submit(service, Options(sent(service, "long.mp4", long.read_bytes())))
        while not job.done:
            time.sleep(0.01)
    assert job.state == "cancelled"
    assert job.done < 2000
    assert not service.folder.exists()
