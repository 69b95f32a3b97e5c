"""Worker processes make the very samples that threads make, and end with whoever started them.

RVM_KILLS is how many times they are killed.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.pipelines import datasets, matting, workers
from data_pipelines.pipelines.batches import Slice, arrays
from data_pipelines.pipelines.shared_memory import SharedMemory, map_block
from data_pipelines.pipelines.workers import Workers
from rvm_jax.errors import InputError
from tests.data_pipelines import endless, faulty, stamped

ROOT = Path(__file__).parent.parent.parent.parent
KILLS = int(os.environ.get("RVM_KILLS", "1"))


@pytest.fixture(scope="module")
def data(prepared):
    return datasets.matting_only(datasets.open_named(endless.NAMES, "train", prepared))


@pytest.fixture(scope="module")
def two():
    with Workers(processes=2) as made:
        yield made


def batches(data, count, part=Slice(4), made_by=None):  # noqa: B008
    named = {"seed": 2, "stream": "workers", "frames": 5, "size": 48, "augmentation": matting.IMAGES}
    return stamped.first(matting.batches(data, part, **named), count, made_by)


def with_read(data, read):
    return replace(data, foregrounds=replace(data.foregrounds, read=read))


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


def test_batches_are_those_of_threads(data, two):
    """All are kept, so that none may lie where an earlier one did; then their memory is used again."""
    expected = batches(data, 9)
    assert_equal(batches(data, 9, made_by=two), expected)
    for batch, wanted in zip(arrays_of(data, two), expected, strict=False):
        assert_equal([batch], [wanted])


def arrays_of(data, made_by):
    named = {"seed": 2, "stream": "workers", "frames": 5, "size": 48, "augmentation": matting.IMAGES}
    return arrays(matting.batches(data, Slice(4), **named), made_by)


def test_a_damaged_record_is_named_by_the_batch_that_has_it(data, two):
    """What comes before it in order comes, though it may be made later."""
    damaged = with_read(data, faulty.Damaged(data.foregrounds.read, 7))
    good, told = [0, 0], []
    for run, made_by in enumerate((None, two)):
        try:
            for _ in arrays_of(damaged, made_by):
                good[run] += 1
        except InputError as error:
            told.append(str(error).partition("(")[0])
    assert good[0] == good[1]
    assert told[0] == told[1]
    assert re.match("frame 7 of synthetic/tiny_matting_clips/.* is damaged: ", told[0])
    assert_equal(batches(data, 2, made_by=two), batches(data, 2))  # they go on


def test_workers_import_neither_jax_nor_tensorflow(data, two):
    with pytest.raises(InputError, match=r"^imported: \[\]$"):
        batches(with_read(data, faulty.tell_modules), 1, made_by=two)


def test_a_bug_is_told_with_its_traceback(data, two):
    buggy = matting.batches(data, Slice(4), seed=2, stream="workers", frames=5, size=48)
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in fail.*UntoldError: '3, twice'"):
        stamped.first(replace(buggy, render=faulty.fail), 1, two)


def test_what_stops_a_run_is_not_for_its_workers(data, two):
    for process, _ in two._started:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
    assert_equal(batches(data, 3, made_by=two), batches(data, 3))


def test_workers_close_what_streams_of_long_ago_have_read(data):
    with Workers(processes=1) as one:
        ((process, _),) = one._started
        opened = []
        for _ in range(2 * workers.STREAMS_KNOWN + 1):
            batches(data, 1, made_by=one)
            opened.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
    assert opened[-1] <= opened[workers.STREAMS_KNOWN] < opened[0] + 10 * workers.STREAMS_KNOWN
    assert opened[0] < opened[1]


def test_a_worker_that_does_not_understand_ends_with_all_of_its_threads():
    with Workers(processes=1, threads=2) as one:
        ((process, connections),) = one._started
        connections[0].send_bytes(b"junk")
        assert process.wait() == 1


def test_a_worker_that_is_killed_is_told(data):
    expected = "^a worker process that makes samples was killed by signal 9, perhaps because the memory is full: try"
    with Workers(processes=1, threads=2) as one, pytest.raises(InputError, match=expected):
        batches(with_read(data, faulty.kill_process), 1, made_by=one)


def test_closing_waits_for_no_sample(data, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    one = Workers(processes=1)
    ((process, _),) = one._started
    waiting = arrays_of(with_read(data, faulty.Waiting(str(fifo))), one)

    def ask():
        with contextlib.suppress(InputError):
            next(waiting)

    asking = threading.Thread(target=ask)
    asking.start()
    with fifo.open("w"):  # is open when the worker waits
        one.close()
    asking.join()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_when_the_parent_is_killed_its_workers_end(prepared):
    """They hold the other end of its standard error, which is at its end when the last of them has ended."""
    draw = random.Random(0)
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.data_pipelines.endless", prepared],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        ) as process:
            assert process.stdout is not None
            for _ in range(draw.randint(1, 20)):
                assert process.stdout.readline()
            named = set(Path("/dev/shm").glob("*rvm*"))
            process.kill()
            _, told = process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert b"Traceback" not in told, told
        assert named == set()


@pytest.mark.slow
def test_batches_may_be_left_when_python_ends(prepared):
    known = "ignore:label() is deprecated:DeprecationWarning"  # see `filterwarnings` in pyproject.toml
    command = [sys.executable, "-W", "error", "-W", known, "-m", "tests.data_pipelines.endless", prepared, "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
    assert "Traceback" not in done.stderr


def test_memory_is_lent_again_only_when_nobody_sees_it():
    memory = SharedMemory()
    first, block = memory.borrow(100_000)
    assert len(first) == block.size == 2**17
    part = first[10:20].reshape(2, 5)
    del first
    _, other = memory.borrow(100_000)
    assert other.start >= block.start + block.size
    del part
    assert memory.borrow(80_000)[1] in (block, other)
    memory.close()


def test_memory_that_nobody_has_is_given_back():
    memory = SharedMemory()
    lent, block = memory.borrow(2**20)
    lent[:] = 1
    other = np.frombuffer(map_block(memory.descriptor, block), np.uint8)
    assert other[77] == 1
    memory.trim()
    assert os.fstat(memory.descriptor).st_blocks * 512 >= 2**20
    del lent
    memory.trim()
    assert os.fstat(memory.descriptor).st_blocks == 0
    memory.close()


@pytest.mark.parametrize(("bytes_ahead", "threads", "begun"), [(2**30, 1, 3), (2**30, 17, 6), (1, 1, 1)])
def test_batches_ahead_are_bounded(data, bytes_ahead, threads, begun, monkeypatch):
    """By their number, enough for all threads to work, and by their bytes."""
    monkeypatch.setattr(workers, "BYTES_AHEAD", bytes_ahead)
    with Workers(processes=0, threads=threads) as made_by:
        begin, called = made_by.begin, []
        made_by.begin = lambda *given: called.append(1) or begin(*given)
        stream = arrays_of(data, made_by)
        next(stream)
        assert len(called) == begun
        next(stream)
        assert len(called) == begun + 1
        stream.close()
        assert made_by._bytes_ahead == 0


@pytest.mark.parametrize(
    ("cores", "sharing", "given", "processes", "threads"),
    [
        (2, 1, {}, 0, 2),
        (8, 1, {}, 0, 8),
        (16, 1, {"threads": 8}, 2, 8),
        (64, 8, {}, 0, 8),
        (4, 8, {}, 0, 1),
        (64, 1, {"processes": 0}, 0, 64),
        (2, 1, {"processes": 3}, 3, 1),
        (32, 2, {}, 16, 1),
    ],
)
def test_by_default_cores_that_are_many_have_a_process_each(cores, sharing, given, processes, threads, monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: cores)
    none = SimpleNamespace(kill=lambda: None, wait=lambda: 0)
    monkeypatch.setattr(workers, "_start", lambda *given: (none, []))
    with Workers(**given, sharing=sharing) as made:
        assert (made.processes, made.threads) == (processes, threads)
