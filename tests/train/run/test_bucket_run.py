"""The life of a run in a bucket: begun, copied, cut off, taken over, ended."""

import json
import subprocess
import sys
import threading

import pytest

from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import bucket_lock, buckets
from rvm_jax.host.bucket_lock import LostError
from tests import fake_bucket
from tests.killed_bucket import at_change, unreachable
from train.run.bucket_run import BucketRun, UncopiedError

bucket = fake_bucket.bucket


@pytest.fixture
def url(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bucket_lock, "MOMENT", 0)
    return f"{bucket}/{tmp_path.name}/first"


@pytest.fixture
def places(tmp_path):
    """Gives what there is of runs on this machine."""
    return lambda: [path.name for path in (tmp_path / "cache" / "rvm-jax" / "runs").glob("*/*")]


def begin(run):
    (run.folder / "recipe.json").write_text("{}")
    (run.folder / "sessions.jsonl").write_text("{}\n")
    run.begin()


def session(url, work):
    """A session of the run that does this after its beginning."""
    with BucketRun(url) as run:
        begin(run)
        work(run)


def save(run, done):
    folder = run.folder / "checkpoints" / str(done)
    folder.mkdir(parents=True)
    (folder / "array").write_text(f"after {done}")
    (folder / "commit_success.txt").touch()


def saved(url):
    """The checkpoints that the bucket has."""
    names = buckets.list_files(url)
    return sorted(int(name.split("/")[1]) for name in names if name.endswith("/commit_success.txt"))


def test_a_run_on_a_disk_is_its_folder(tmp_path):
    with BucketRun(tmp_path / "run") as run:
        assert run.folder == tmp_path / "run"
        run.begin()
        run.push(pytest.fail)
        run.wait()
        run.finish()
        assert run.name(run.folder / "weights") == tmp_path / "run" / "weights"
    assert list(tmp_path.iterdir()) == []


def test_other_hosts_than_the_first_touch_nothing(url, places):
    with BucketRun(url, first_host=False) as run:
        run.begin()
        run.push(pytest.fail)
        run.finish()
    assert buckets.list_files(url) == []
    assert places() == []


def test_a_run_is_in_the_bucket_at_its_end_and_no_longer_here(url, places):
    with BucketRun(f"{url}/") as run:
        assert run.folder.name == "first"
        assert run.name(run.folder / "a" / "b") == f"{url}/a/b"
        begin(run)
        assert {"lock", "recipe.json", "sessions.jsonl"} == set(buckets.list_files(url))
        written = threading.Event()

        def wait():
            assert written.wait(60)
            save(run, 2)

        run.push(wait)  # it returns at once, and the checkpoint is awaited
        assert saved(url) == []
        written.set()
        run.wait()
        assert saved(url) == [2]
        save(run, 4)
    assert saved(url) == [2, 4]
    assert "lock" not in buckets.list_files(url)
    assert places() == []
    with BucketRun(url) as run:
        assert (run.folder / "checkpoints" / "4" / "array").read_text() == "after 4"


def test_what_saving_raises_is_raised(url):
    def fail():
        raise InputError("the disk is full")

    def work(run):
        run.push(fail)
        run.wait()

    with pytest.raises(InputError, match="the disk is full"):
        session(url, work)


def test_trouble_on_the_way_is_told_and_made_up_for(url, monkeypatch, capsys):
    with BucketRun(url) as run:
        begin(run)
        save(run, 2)
        with monkeypatch.context() as patched:
            at_change(patched, 0, unreachable)
            run.push(lambda: None)
            run.wait()
        assert capsys.readouterr().err.splitlines() == [
            f"cannot write {url}: the network is down; training goes on, and the next checkpoint is copied together "
            "with this one"
        ]
        assert saved(url) == []
        save(run, 4)
        run.push(lambda: None)
        run.wait()
        assert saved(url) == [2, 4]


@pytest.mark.parametrize("error", [None, Stopped("stopped and saved after 4 iterations")])
def test_trouble_at_the_end_says_where_all_of_it_is(url, places, monkeypatch, error):
    """Then nothing is told as saved; and the same command copies it, before it does anything else."""
    with monkeypatch.context() as patched:

        def work(run):
            at_change(patched, 0, unreachable)
            save(run, 4)
            if error is not None:
                raise error

        with pytest.raises(UncopiedError) as told:
            session(url, work)
        assert str(told.value) == (
            f"cannot write {url}: the network is down; what is not there yet is in {BucketRun(url).folder}: the same "
            "command on this machine copies it"
        )
    assert saved(url) == []
    bucket_lock_is_old(url)
    with BucketRun(url) as again:
        assert (again.folder / "checkpoints" / "4").is_dir()
        again.begin()
        assert saved(url) == [4]
    assert places() == []


def bucket_lock_is_old(url):
    """A network that is down keeps the lock in the bucket; as if a minute had passed."""
    buckets.remove(url, ["lock"])


def test_trouble_at_the_end_of_a_run_that_failed_is_told_beside_that(url, places, monkeypatch, capsys):
    with monkeypatch.context() as patched:

        def work(run):
            at_change(patched, 0, unreachable)
            save(run, 4)
            raise InputError("the loss is nan")

        with pytest.raises(InputError, match="the loss is nan"):
            session(url, work)
    assert capsys.readouterr().err.splitlines() == [
        f"cannot write {url}: the network is down; what is not there yet is in {BucketRun(url).folder}: the same "
        "command on this machine copies it"
    ]
    assert places() == ["first"]


def test_a_run_that_fails_is_in_the_bucket_too(url, places):
    def work(run):
        save(run, 2)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        session(url, work)
    assert saved(url) == [2]
    assert places() == []


def test_who_has_no_patience_finds_it_here(url, places, capsys):
    def work(run):
        save(run, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session(url, work)
    assert f"what is not there yet is in {BucketRun(url).folder}" in capsys.readouterr().err
    assert saved(url) == []
    assert places() == ["first"]


def test_trouble_at_the_start_leaves_nothing(url, places, monkeypatch):
    with monkeypatch.context() as patched:
        at_change(patched, 0, unreachable)
        with pytest.raises(InputError, match=r"cannot write gs://.*/first/lock: the network is down"), BucketRun(url):
            pass
    assert buckets.list_files(url) == []
    assert places() == []
    with monkeypatch.context() as patched:
        at_change(patched, 1, unreachable)  # after the lock
        with pytest.raises(InputError, match=r"^cannot write gs://.*/first: the network is down$"):
            session(url, pytest.fail)
    assert places() == []


def test_a_start_that_is_refused_changes_nothing(url, places):
    with BucketRun(url) as run:
        begin(run)
        save(run, 2)
    before = buckets.list_files(url)

    def refused():
        with BucketRun(url) as run:
            (run.folder / "recipe.json").write_text("other")
            raise InputError("holds another run")

    with pytest.raises(InputError, match="holds another run"):
        refused()
    assert buckets.list_files(url) == before
    assert buckets.read(f"{url}/recipe.json") == b"{}"
    assert places() == []


def test_a_second_start_is_refused(url, tmp_path, monkeypatch):
    """On this machine by the file, elsewhere by the object."""
    with BucketRun(url) as run:
        begin(run)
        refused = rf"^process \d+ on .* is training in {url}: wait for it, stop it, or give another --out DIR$"
        with pytest.raises(InputError, match=refused), BucketRun(url):
            pass
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        take = bucket_lock.BucketLock.take

        def take_while_the_other_beats(self):
            self._pause = lambda _: run._lock.beat()
            take(self)

        with monkeypatch.context() as patched:
            patched.setattr(bucket_lock.BucketLock, "take", take_while_the_other_beats)
            with pytest.raises(InputError, match=refused), BucketRun(url):
                pass
        save(run, 2)
    assert saved(url) == [2]


def test_who_was_taken_over_writes_no_more(url, places, monkeypatch, capsys):
    def work(run):
        save(run, 2)
        buckets.write(f"{url}/lock", json.dumps({"owner": "process 7 on b", "token": "theirs"}).encode())
        run.push(lambda: None)
        run.wait()

    with pytest.raises(LostError, match=r"^process 7 on b has taken over gs://"):
        session(url, work)
    assert saved(url) == []
    assert json.loads(buckets.read(f"{url}/lock"))["token"] == "theirs"
    assert capsys.readouterr().err == ""


KILLED = """
import os, pathlib, signal, sys
from train.run.bucket_run import BucketRun
with BucketRun(sys.argv[1]) as run:
    (run.folder / "recipe.json").write_text("{}")
    run.begin()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_is_not_waited_for_on_its_own_machine(url, places, monkeypatch):
    process = subprocess.run([sys.executable, "-c", KILLED, url], check=False)
    assert process.returncode == -9
    assert "lock" in buckets.list_files(url)
    assert places() != []
    monkeypatch.setattr(bucket_lock.BucketLock, "_watch", lambda *_: pytest.fail("it waits"))
    with BucketRun(url) as run:
        begin(run)
    assert places() == []
