"""Worker processes, or threads, that make the samples of all streams together."""

import collections
import os
import pickle
import queue
import resource
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import numpy as np

from data_pipelines.pipelines import samples
from data_pipelines.pipelines.samples import Plan, Render, Shapes
from data_pipelines.pipelines.shared_memory import Block, SharedMemory
from rvm_jax.errors import InputError
from rvm_jax.host.cores import cores
from rvm_jax.host.signals import LISTENED, blocked

ONE_PROCESS = 8
"""Up to so many cores, one process makes samples as fast as several; its threads share an interpreter's lock."""
FRAMES_OF_A_JOB = 8
"""Samples of fewer frames are made several at a time."""
BATCHES_AHEAD = 2
MANY_FILES = 2**16
STREAMS_KNOWN = 8
"""Those that a worker process was asked for last; what another one reads is closed."""
BYTES_AHEAD = 4 * 2**30
"""What batches that nobody asked for yet may take, those of all streams together."""

Known = TypeVar("Known")


class Stream(NamedTuple):
    """Samples that one function makes: its number, the function, and that pickled, where there are processes."""

    number: int
    render: Render
    pickled: bytes | None


class Job(NamedTuple):
    """Some samples of a batch.

    Attributes:
        stream: The number of their stream.
        render: What makes their pixels, pickled; None if who is at the other end of the connection knows the stream.
        plans: Theirs alone.
        first: The place of the first of them in the batch.
        block: Where the batch is.
        shapes: Those of its layers.
    """

    stream: int
    render: bytes | None
    plans: Plan
    first: int
    block: Block
    shapes: Shapes


class Done(NamedTuple):
    """What is answered to a job: what went wrong, and how many seconds of a core it took."""

    error: Exception | None
    core_seconds: float


class PendingBatch(NamedTuple):
    """A batch that is being made.

    Attributes:
        jobs: In the order of its samples.
        layers: Where they are made.
        bytes: How large it is.
    """

    jobs: Sequence["Future[None]"]
    layers: Sequence[np.ndarray]
    bytes: int


class Workers:
    """Threads of this process, or worker processes, that make samples for all streams that are given them.

    Which of them makes a sample changes nothing. Processes are needed where there are many cores: some tenth of the
    work on a sample holds the interpreter's lock, which all threads of a process share.

    Attributes:
        processes: How many worker processes; with 0, threads of this process make the samples.
        threads: How many samples each of them makes at a time.
        core_seconds: What worker processes have spent on samples so far.
    """

    def __init__(self, processes: int | None = None, threads: int | None = None, *, sharing: int = 1) -> None:
        """By default, as many as there are cores for this one of `sharing` processes, as processes if they are many."""
        available = max(1, cores() // sharing)
        if processes is not None and processes < 0:
            raise InputError(f"--data-processes {processes}: expected 0 or more")
        if threads is not None and threads < 1:
            raise InputError(f"--data-threads {threads}: expected 1 or more")
        if processes is None:
            processes = 0 if available <= ONE_PROCESS else -(-available // (threads or 1))
        self.processes = processes
        self.threads = threads or (1 if processes else available)
        self.core_seconds = 0.0
        self._counting = threading.Lock()
        self._bytes_ahead = 0
        self._streams = 0
        _allow_many_files()
        self._memory = SharedMemory() if processes else None
        self._started = [_start(self.threads, self._memory) for _ in range(processes)] if self._memory else []
        self._connections: queue.SimpleQueue[tuple[subprocess.Popen[bytes], Connection]] = queue.SimpleQueue()
        for process, connections in self._started:
            for connection in connections:
                self._connections.put((process, connection))
        self._of_thread = threading.local()
        self._executor = ThreadPoolExecutor(self.count, "samples", self._connect if processes else None)
        # Also where Python ends with batches that nobody asks for any more.
        self._end = weakref.finalize(self, _end, self._executor, self._started, self._memory)

    @property
    def count(self) -> int:
        """How many samples are made at a time."""
        return max(1, self.processes) * self.threads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all threads and processes; batches that are not done never will be."""
        self._end()

    def stream(self, render: Render) -> Stream:
        """Samples that this function makes."""
        self._streams += 1
        return Stream(self._streams, render, pickle.dumps(render) if self.processes else None)

    def batches_ahead(self, count: int) -> int:
        """How many batches of so many samples a stream is ahead, if they are not too large: enough for all to work."""
        return max(BATCHES_AHEAD, -(-self.count // count))

    def has_room(self, ahead: int, shapes: Shapes) -> bool:
        """Whether a stream that is so many batches ahead may begin another one, with layers of these shapes."""
        return (
            ahead <= self.batches_ahead(shapes[0][0]) and self._bytes_ahead + samples.byte_count(shapes) <= BYTES_AHEAD
        )

    def begin(self, stream: Stream, plans: Plan, shapes: Shapes) -> PendingBatch:
        """Begin to make the samples of these plans, as layers of these shapes: uint8 [b, T, h, w, C]."""
        count, frames = shapes[0][:2]
        size = samples.byte_count(shapes)
        memory, block = self._memory.borrow(size) if self._memory else (np.empty(size, np.uint8), None)
        layers = samples.layers(memory, shapes)
        step = max(1, FRAMES_OF_A_JOB // frames)
        jobs = []
        for first in range(0, count, step):
            of_job = samples.stretch(plans, slice(first, first + step))
            jobs.append(self._executor.submit(self._make, stream, of_job, layers, first, block))
        self._bytes_ahead += size
        return PendingBatch(jobs, layers, size)

    def finish(self, pending: collections.deque[PendingBatch]) -> Sequence[np.ndarray]:
        """Wait for the first batch and take it out; its layers. What went wrong with a sample is raised, in order."""
        for job in pending[0].jobs:
            job.result()
        batch = pending.popleft()
        self._bytes_ahead -= batch.bytes
        return batch.layers

    def abandon(self, batches: Iterable[PendingBatch]) -> None:
        """Make no more of these batches, and give back what memory nobody has."""
        for batch in batches:
            self._bytes_ahead -= batch.bytes
            for job in batch.jobs:
                job.cancel()
        if self._memory is not None:
            self._memory.trim()

    def _make(self, stream: Stream, plans: Plan, layers: Sequence[np.ndarray], first: int, block: Block | None) -> None:
        """Make samples, in a thread of this process or, at its bidding, in a worker process."""
        if block is None:
            samples.make(stream.render, plans, layers, first)
            return
        known: OrderedDict[int, None] = self._of_thread.known
        render = None if stream.number in known else stream.pickled
        remember(known, stream.number, None)
        done = self._ask(Job(stream.number, render, plans, first, block, [layer.shape for layer in layers]))
        with self._counting:
            self.core_seconds += done.core_seconds
        if done.error is not None:
            raise done.error

    def _ask(self, job: Job) -> Done:
        connection: Connection = self._of_thread.connection
        try:
            connection.send(job)
            return connection.recv()
        except (EOFError, OSError):  # it is gone
            status = self._of_thread.process.wait()
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        hint = ", perhaps because the memory is full: try fewer, with --data-processes" if status < 0 else ""
        raise InputError(f"a worker process that makes samples {ended}{hint}")

    def _connect(self) -> None:
        """What each thread does first, where there are processes: take a connection to one."""
        self._of_thread.known = collections.OrderedDict()
        self._of_thread.process, self._of_thread.connection = self._connections.get()


def remember(known: OrderedDict[int, Known], stream: int, what: Known) -> None:
    """Note what was used last of a stream, and forget the streams of long ago: both ends of a connection the same."""
    known[stream] = what
    known.move_to_end(stream)
    while len(known) > STREAMS_KNOWN:
        known.popitem(last=False)


def _allow_many_files() -> None:
    """Let this process, and those that it starts, open many files: each stream opens the shards that it reads."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if most == resource.RLIM_INFINITY else min(MANY_FILES, most)
    if limit != resource.RLIM_INFINITY and limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _end(
    executor: ThreadPoolExecutor,
    started: Sequence[tuple[subprocess.Popen[bytes], Sequence[Connection]]],
    memory: SharedMemory | None,
) -> None:
    executor.shutdown(wait=False, cancel_futures=True)
    for process, _ in started:
        process.kill()  # it has nothing to lose
    executor.shutdown()
    for process, connections in started:
        process.wait()
        for connection in connections:
            connection.close()
    if memory is not None:
        memory.close()


def _start(threads: int, memory: SharedMemory) -> tuple[subprocess.Popen[bytes], list[Connection]]:
    """A worker process, and a connection to each of its threads.

    `multiprocessing` would import the main module in it, which may import TensorFlow.
    """
    ours, theirs = zip(*(Pipe() for _ in range(threads)), strict=True)
    descriptors = [memory.descriptor, *(connection.fileno() for connection in theirs)]
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 — it is a path for Python
    with blocked(LISTENED):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "data_pipelines.pipelines.sample_worker", *map(str, descriptors)],
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
        )
    for connection in theirs:
        connection.close()
    return process, list(ours)
