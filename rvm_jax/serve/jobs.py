"""The job queue: one job after the other on one device, with files that lie in one private folder.

One thread computes. Between two chunks of a job it makes the previews that wait, and one frame of a live camera, so
that nobody waits long for those. Each person's jobs take turns with those of others. Nothing here knows of HTTP.
"""

import contextlib
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import numpy as np

from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.errors import InputError
from rvm_jax.host import memory
from rvm_jax.host.locks import HeldError, locked
from rvm_jax.matte import Matte
from rvm_jax.serve import requests, uploads
from rvm_jax.serve.requests import Options, Request
from rvm_jax.serve.uploads import Limits, Refused, Store

SWEEP_EVERY = 20.0
PREFIX = "rvm-serve-"
MOST_PROGRAMS = 16
"""Each size of frames and kind of background has a compiled program. After so many, all are dropped to bound memory."""

State = Literal["waiting", "running", "done", "failed", "cancelled"]
UNFINISHED = ("waiting", "running")
T = TypeVar("T")


@dataclass(eq=False)
class Job:
    id: str
    person: str
    folder: Path
    request: Request
    state: State = "waiting"
    done: int = 0
    expected: int | None = None
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """What was made: "matte", "preview", which every browser can show (the newest frame until it ends), and "alpha"."""
    cancelled: bool = False
    created: float = field(default_factory=time.time)
    touched: float = field(default_factory=time.monotonic)
    """When it ended, or somebody last took a file of it."""
    first: tuple[float, int] = (0.0, 0)
    """When there was progress first, and how many frames were done then: before that, programs are compiled."""


@dataclass(eq=False, kw_only=True)
class Service(Store):
    matte: Matte | BaselineMatte
    weights: str = ""
    jobs: dict[str, Job] = field(default_factory=dict)
    previews: deque[Job] = field(default_factory=deque)
    waiting: deque[Job] = field(default_factory=deque)
    running: Job | None = None
    works: deque[tuple[Callable[[], Any], "Future[Any]"]] = field(default_factory=deque)
    """Of live cameras: what `soon` was given."""
    served: dict[str, float] = field(default_factory=dict)
    """When a job of each person last began."""
    programs: set[tuple[Any, ...]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    """Of ended jobs by their state, and of frames."""
    closing: bool = False
    alive: bool = True
    """Whether the thread that computes is there."""


@contextlib.contextmanager
def serving(matte: Matte | BaselineMatte, limits: Limits, weights: str = "") -> Iterator[Service]:
    """A service that takes jobs within the block; all of its files are gone after it."""
    with _private_folder() as folder:
        service = Service(limits, folder, matte=matte, weights=weights)
        threads = [threading.Thread(target=work, args=(service,), daemon=True) for work in (_compute, _sweep)]
        for thread in threads:
            thread.start()
        try:
            yield service
        finally:
            with service.changed:
                service.closing = True
                service.changed.notify_all()
            for thread in threads:
                thread.join()
            for _, future in service.works:
                future.cancel()


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that only its owner can read, gone after the block. Those of servers that were killed go as well."""
    for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, HeldError), locked(other):  # of somebody else, or in use
            shutil.rmtree(other, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder, locked(Path(folder)):
        yield Path(folder).resolve()


def submit(service: Service, options: Options, person: str = "") -> Job:
    """Put a job in the queue, or refuse it with an `InputError`."""
    queue = service.previews if options.preview else service.waiting
    _refuse_if_many(service, queue, person)
    uploads.refuse_if_full(service)
    folder = service.folder / secrets.token_urlsafe(16)
    try:
        folder.mkdir()
        job = Job(folder.name, person, folder, requests.validate(options, folder, service.limits, service.matte))
        source = job.request.source
        if not (options.preview or source.picture) and source.seconds is None:
            most = f"{service.limits.seconds:g}"
            job.warnings.append(f"It is not known how long it is: at most {most} s of it are taken.")
        with service.changed:
            _refuse_if_many(service, queue, person)  # others came while its files were examined
            service.jobs[job.id] = job
            queue.append(job)
            service.changed.notify_all()
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        raise Refused(requests.server_error(error), 500) from error
    return job


def _refuse_if_many(service: Service, queue: deque[Job], person: str) -> None:
    with service.changed:
        if len(queue) >= service.limits.waiting:
            raise Refused(f"{len(queue)} jobs are waiting already: try again in a few minutes", 429)
        own = sum(job.person == person for job in queue)
        if own >= service.limits.each:
            raise Refused(f"{own} of your jobs are waiting already: try again in a few minutes", 429)


def soon(service: Service, work: Callable[[], T]) -> "Future[T]":
    """Let the thread that computes do some work before the next job, or between two chunks of the one that runs."""
    future: Future[T] = Future()
    with service.changed:
        if service.closing:
            future.cancel()
        else:
            service.works.append((work, future))
            service.changed.notify_all()
    return future


def find(service: Service, name: str, person: str) -> Job:
    """The job of that id, if it is this person's."""
    job = service.jobs.get(name)
    if job is None or job.person != person:
        message = f"there is no job {uploads.display_name(name)} (any more): files are removed after a while"
        raise Refused(message, 404)
    return job


def place(service: Service, job: Job) -> int | None:
    """When it is its turn: 1 for the next one; None if it does not wait."""
    with service.changed:
        queue = list(service.previews) if job.request.preview else _in_turn(service)
    return queue.index(job) + 1 if job in queue else None


def _in_turn(service: Service) -> list[Job]:
    """The jobs that wait, in the order in which they run: one of each person, then the second of each."""
    before: Counter[str] = Counter()
    turns = []
    for job in service.waiting:
        turns.append((before[job.person], service.served.get(job.person, 0), job))
        before[job.person] += 1
    return [job for *_, job in sorted(turns, key=lambda turn: turn[:2])]


def speed(job: Job) -> tuple[float | None, float | None]:
    """Frames a second, and how many seconds are left."""
    began, frames = job.first
    if job.state != "running" or job.done <= frames:
        return None, None
    rate = (job.done - frames) / max(time.monotonic() - began, 1e-3)
    return rate, None if job.expected is None else max(0, job.expected - job.done) / rate


def forget(service: Service, job: Job) -> None:
    """Remove what was made; what waits is gone at once, and what runs stops after a chunk."""
    with service.changed:
        job.cancelled = True
        for queue in (service.previews, service.waiting):
            if job in queue:
                queue.remove(job)
                _end(service, job, "cancelled")
                return
        if job.state not in UNFINISHED:
            service.jobs.pop(job.id, None)
            shutil.rmtree(job.folder, ignore_errors=True)


def _end(service: Service, job: Job, state: State, files: dict[str, Path] | None = None) -> None:
    with service.changed:
        if not files:
            shutil.rmtree(job.folder, ignore_errors=True)
        job.files, job.state, job.touched = files or {}, state, time.monotonic()
        service.counts[state] += 1
        service.changed.notify_all()


def _compute(service: Service) -> None:
    try:
        while not service.closing:
            with service.changed:
                service.changed.wait_for(
                    lambda: bool(service.closing or service.works or service.previews or service.waiting)
                )
            _between(service)
            with service.changed:
                job = next(iter(_in_turn(service)), None)
                if job is None or service.closing:
                    continue
                service.waiting.remove(job)
                service.served[job.person] = time.monotonic()
                service.running = job
            _run(service, job)
            service.running = None
    finally:
        service.alive = False


def _between(service: Service) -> None:
    """What does not wait for a job to end: all previews, and one piece of work."""
    while service.previews and not service.closing:
        with service.changed:
            preview = service.previews.popleft() if service.previews else None
        if preview:
            _run(service, preview)
    with service.changed:
        work, future = service.works.popleft() if service.works else (None, None)
    if work and future and future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except Exception as error:  # whoever asked for it is told
            future.set_exception(error)


def limit_programs(service: Service, *size: Any) -> None:
    """To be called before frames of a size are computed, with all that decides which programs they need."""
    if size not in service.programs and len(service.programs) >= MOST_PROGRAMS:
        jax.clear_caches()
        memory.return_freed_memory()
        service.programs.clear()
    service.programs.add(size)


def _run(service: Service, job: Job) -> None:
    def progress(done: int, expected: int | None) -> None:
        service.counts["frames"] += done - job.done
        job.done, job.expected = done, expected
        if not job.first[0]:
            job.first = time.monotonic(), done

    def stop() -> bool:
        uploads.refuse_if_full(service)
        _between(service)
        return job.cancelled or service.closing

    def look(pixels: np.ndarray) -> None:
        job.files = {"preview": requests.write_jpeg(job.folder, pixels)}

    request = job.request
    job.state = "running"
    try:
        limit_programs(service, *request.program)
        if request.preview:
            made = requests.make_preview(service.matte, request, job.folder)
        else:
            made = requests.make_matte(service.matte, request, job.folder, progress, stop, look)
        if not made or job.cancelled or service.closing:
            _end(service, job, "cancelled")
        else:
            _end(service, job, "done", made)
    except Exception as error:  # the server goes on, whatever a job does
        job.error = requests.error_message(error, request, job.folder)
        _end(service, job, "failed")


def _sweep(service: Service) -> None:
    """From time to time, remove what nobody has touched for a while."""
    while True:
        with service.changed:
            if service.changed.wait_for(lambda: service.closing, SWEEP_EVERY):
                return
        try:
            sweep(service)
        except Exception:  # the next one may do better
            traceback.print_exc(file=sys.stderr)


def sweep(service: Service) -> None:
    uploads.sweep(service)
    for job in list(service.jobs.values()):
        if job.state not in UNFINISHED and time.monotonic() - job.touched > service.limits.keep:
            forget(service, job)
    people = {job.person for job in service.jobs.values()}
    for person in service.served.keys() - people:
        del service.served[person]
