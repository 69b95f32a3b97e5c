import errno
import os
import signal
import subprocess
import sys

import pytest

from rvm_jax.host import locks
from rvm_jax.host.locks import HeldError, locked

HOLD = """
import pathlib, sys, time
from rvm_jax.host.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_held_once_and_free_when_its_process_is_killed(kind, tmp_path):
    path = tmp_path if kind == "folder" else tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(HeldError) as held, locked(path):
                pass
            owner = held.value.owner
            assert owner == "another process" if kind == "folder" else owner.startswith(f"process {process.pid} on ")
        finally:
            process.send_signal(signal.SIGKILL)
    with locked(path), pytest.raises(HeldError), locked(path):
        pass


def test_a_file_tells_its_latest_owner_alone(tmp_path):
    (tmp_path / "lock").write_text("x" * 500)
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
        assert "x" not in (tmp_path / "lock").read_text().partition(" on ")[0]
        assert len((tmp_path / "lock").read_text()) < 500
    assert (tmp_path / "lock").exists()


def test_a_lock_that_is_not_to_stay_is_removed_also_after_an_error(tmp_path):
    with pytest.raises(OSError, match="mine"), locked(tmp_path / "lock", remove=True):
        raise OSError("mine")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_not_taken(tmp_path, monkeypatch):
    """Between opening and locking it, its owner may remove it, and another process make a new one."""
    flock = locks.fcntl.flock

    def late(file, operation):
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").touch()
        flock(file, operation)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with pytest.raises(HeldError), locked(tmp_path / "lock"):
        pass


@pytest.mark.parametrize(("number", "taken"), [(errno.ENOLCK, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_without_locks_is_taken_without(number, taken, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    if taken:
        with locked(tmp_path / "lock"):
            assert (tmp_path / "lock").exists()
    else:
        with pytest.raises(OSError, match=os.strerror(number)), locked(tmp_path / "lock"):
            pass


def test_a_system_without_flock_is_taken_without(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
