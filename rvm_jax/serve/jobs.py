"""The job queue: one job after the other on one device, with files that lie in one private folder.

One thread computes. Between two chunks of a job it makes the previews that wait, so that nobody waits long for those.
Nothing here knows of pages or requests.
"""

import contextlib
import secrets
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from rvm_jax.errors import InputError
from rvm_jax.host.locks import HeldError, locked
from rvm_jax.matte import Matte
from rvm_jax.serve import requests, uploads
from rvm_jax.serve.requests import Options, Request
from rvm_jax.serve.uploads import Limits

ABANDONED = 15.0
"""After so many seconds without anybody asking for it, a job stops."""
AFTER_DOWNLOAD = 600.0
"""For so many seconds a matte stays when it was downloaded, in case that went wrong."""
SWEEP_EVERY = 20.0
PREFIX = "rvm-serve-"

State = Literal["waiting", "running", "done", "failed", "cancelled"]
UNFINISHED = ("waiting", "running")


@dataclass(eq=False)
class Job:
    name: str
    folder: Path
    request: Request
    state: State = "waiting"
    done: int = 0
    expected: int | None = None
    message: str = ""
    """Why it failed, or what is to be known of the result."""
    files: dict[str, Path] = field(default_factory=dict)
    """What was made: "matte", "view", which every browser can show, and "alpha"."""
    cancelled: bool = False
    polled: float = field(default_factory=time.monotonic)
    """When somebody last asked for it."""
    first: tuple[float, int] = (0.0, 0)
    """When there was progress first, and how many frames were done then: before that, programs are compiled."""


class JobStatus(NamedTuple):
    state: State
    before: int
    """How many jobs come before it."""
    done: int
    expected: int | None
    fps: float | None
    left: float | None
    """How many seconds are left."""
    message: str


@dataclass(eq=False)
class Service:
    matte: Matte
    limits: Limits
    folder: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    previews: deque[Job] = field(default_factory=deque)
    waiting: deque[Job] = field(default_factory=deque)
    running: Job | None = None
    closing: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


@contextlib.contextmanager
def serving(matte: Matte, limits: Limits) -> Iterator[Service]:
    """A service that takes jobs within the block; all of its files are gone after it."""
    with _private_folder() as folder:
        service = Service(matte, limits, folder)
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


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that only its owner can read, gone after the block. Those of servers that were killed go as well."""
    for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, HeldError), locked(other):  # of somebody else, or in use
            uploads.remove(other)
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder, locked(Path(folder)):
        yield Path(folder).resolve()


def submit(service: Service, options: Options) -> Job:
    """Put a job in the queue, or refuse it with an `InputError`."""
    queue = service.previews if options.preview else service.waiting
    _refuse_if_many(service, queue)
    name = secrets.token_urlsafe(16)
    folder = service.folder / name
    try:
        uploads.refuse_if_full(service.folder)
        folder.mkdir()
        job = Job(name, folder, requests.validate(options, service.folder, folder, service.limits))
        with service.changed:
            _refuse_if_many(service, queue)  # others came while its files were examined
            service.jobs[name] = job
            queue.append(job)
            service.changed.notify_all()
    except BaseException as error:
        uploads.remove(folder)
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        raise InputError(requests.server_error(error)) from error
    return job


def _refuse_if_many(service: Service, queue: deque[Job]) -> None:
    with service.changed:
        _give_up(service)
        if len(queue) >= service.limits.waiting:
            raise InputError(f"{len(queue)} jobs are waiting already: try again in a few minutes")


def find(service: Service, name: str) -> Job:
    try:
        return service.jobs[name]
    except KeyError:
        raise InputError(
            f"there is no job {uploads.display_name(name)}: its files are gone, so send the video again"
        ) from None


def status(service: Service, job: Job) -> JobStatus:
    """How far it is. What nobody asks for is given up after a while."""
    job.polled = time.monotonic()
    with service.changed:
        queue = list(service.waiting)
        before = queue.index(job) + (service.running is not None) if job in queue else 0
    fps = left = None
    began, frames = job.first
    if job.state == "running" and job.done > frames:
        fps = (job.done - frames) / max(time.monotonic() - began, 1e-3)
        left = None if job.expected is None else max(0, job.expected - job.done) / fps
    return JobStatus(job.state, before, job.done, job.expected, fps, left, job.message)


def cancel(service: Service, job: Job) -> None:
    """What runs stops after a chunk. What waits is gone at once."""
    queue = service.previews if job.request.preview else service.waiting
    with service.changed:
        job.cancelled = True
        if job in queue:
            queue.remove(job)
            uploads.remove(job.folder)
            job.state = "cancelled"


def forget(service: Service, job: Job, *, seconds: float = 0) -> None:
    """Remove what was made, after some time; if it is not made yet, stop."""
    with service.changed:
        if job.state in UNFINISHED:
            cancel(service, job)
            return
    if seconds:
        uploads.expire(job.folder, seconds, service.limits.keep)
    else:
        uploads.remove(job.folder)
        service.jobs.pop(job.name, None)


def _compute(service: Service) -> None:
    while True:
        with service.changed:
            service.changed.wait_for(lambda: service.closing or service.previews or service.waiting)
            job = service.running = _next(service, service.previews, service.waiting)
        if job is None:
            return
        _run(service, job)
        service.running = None


def _next(service: Service, *queues: deque[Job]) -> Job | None:
    """The first of the first queue that has one, taken out of it."""
    with service.changed:
        queue = next(filter(None, queues), None)
        return None if queue is None or service.closing else queue.popleft()


def _give_up(service: Service) -> None:
    """What waits and is of no interest to anybody any more."""
    with service.changed:
        for job in [*service.previews, *service.waiting]:
            if _unwanted(service, job):
                cancel(service, job)


def _unwanted(service: Service, job: Job) -> bool:
    return job.cancelled or service.closing or time.monotonic() - job.polled > ABANDONED


def _run(service: Service, job: Job) -> None:
    def progress(done: int, expected: int | None) -> None:
        job.done, job.expected = done, expected
        if not job.first[0]:
            job.first = time.monotonic(), done

    def stop() -> bool:
        while preview := _next(service, service.previews):
            _run(service, preview)
        return _unwanted(service, job)

    made: dict[str, Path] = {}
    try:
        if not _unwanted(service, job):
            job.state = "running"
            if job.request.preview:
                made = requests.make_preview(service.matte, job.request, job.folder)
            else:
                made = requests.make_matte(service.matte, job.request, job.folder, progress, stop)
        with service.changed:
            if made and not _unwanted(service, job):
                source, seconds = job.request.source, service.limits.seconds
                if not job.request.preview and not source.picture and source.seconds is None:
                    job.message = f"It is not known how long it is: at most {seconds:g} s of it were taken."
                job.files, job.state = made, "done"
                return
        uploads.remove(job.folder)
        job.state = "cancelled"
    except Exception as error:  # the server goes on, whatever a job does
        uploads.remove(job.folder)
        job.message = requests.error_message(error, job.request, job.folder)
        job.state = "failed"


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
    _give_up(service)
    jobs = list(service.jobs.values())
    uploads.sweep(service.folder, service.limits.keep, {job.folder for job in jobs if job.state in UNFINISHED})
    for job in jobs:
        if job.state not in UNFINISHED and not job.folder.exists():
            service.jobs.pop(job.name, None)
