"""A run in a bucket, which is worked on in a folder of this machine and copied at each checkpoint."""

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import bucket_lock, locks
from rvm_jax.host.files import writing
from rvm_jax.host.paths import Location, cache_folder, is_url
from train.run.bucket_copy import BucketCopy
from train.run.run_folder import LOCK, held_by


class UncopiedError(InputError):
    """What a run has made could not be copied to its bucket at the end."""


class BucketRun:
    """To be used as a context: the run is this process's alone meanwhile, and at its end all of it is in the bucket.

    With a path in place of a URL that is the folder, and nothing is copied. On other hosts than the first, nothing is
    either.

    Attributes:
        url: Of the run in the bucket, if it is in one.
        folder: Of the run on this machine.
    """

    def __init__(self, out: Location, *, first_host: bool = True) -> None:
        self.url = os.fspath(out).rstrip("/") if is_url(out) else None
        self.folder = Path(out) if self.url is None else _folder(self.url)
        self._copy = BucketCopy(self.folder, self.url) if self.url is not None and first_host else None
        self._lacks = False  # the bucket may lack what the folder has
        self._begun = False
        self._pushing: Future[None] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            if self._copy is not None:
                self._take(self._copy, stack)
                self._lacks = self._copy.fetch()
            self._claimed = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._claimed:
            if self._begun and not isinstance(error, UncopiedError | bucket_lock.LostError):
                self._end(error)

    def begin(self) -> None:
        """Copy what it begins with, so that a bucket that cannot be written is seen before anything is trained."""
        if self._copy is not None:
            self._lock.check()
            self._copy.push()
            self._begun = self._lacks = True

    def push(self, saved: Callable[[], None]) -> None:
        """Begin to copy what has changed, once `saved` has returned, and return.

        If the bucket cannot be reached, that is told, and what is left is copied the next time.
        """
        if self._copy is not None:
            self.wait()
            self._pushing = self._thread.submit(self._push, self._copy, saved)

    def wait(self) -> None:
        """Return once nothing is being copied; raise what `saved` has, or `LostError`."""
        if self._pushing is not None:
            pushing, self._pushing = self._pushing, None
            pushing.result()

    def finish(self) -> None:
        """Copy all that is left, and wait for it."""
        if self._copy is None:
            return
        self.wait()
        try:
            self._lock.check()
            self._copy.push()
        except bucket_lock.LostError:
            raise
        except InputError as error:
            raise UncopiedError(f"{error}; {self._where_it_is()}") from error

    def name(self, path: Path) -> Location:
        """What the user calls a file of the run."""
        return path if self.url is None else f"{self.url}/{path.relative_to(self.folder).as_posix()}"

    def _take(self, copy: BucketCopy, stack: contextlib.ExitStack) -> None:
        """Take the run for this process, on this machine and in the bucket."""
        place = self.folder.parent
        stack.callback(_remove_empty, place)
        try:
            with writing(place):
                place.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locks.locked(place / LOCK, remove=True))
            stack.callback(self._remove_folder)
            self._thread = stack.enter_context(ThreadPoolExecutor(1, "push"))
            self._lock = stack.enter_context(bucket_lock.locked(f"{copy.url}/{LOCK}"))
        except locks.HeldError as held:
            raise held_by(held.owner, copy.url) from None

    def _push(self, copy: BucketCopy, saved: Callable[[], None]) -> None:
        saved()
        try:
            self._lock.check()
            copy.push()
        except bucket_lock.LostError:
            raise
        except InputError as error:
            _log(f"{error}; training goes on, and the next checkpoint is copied together with this one")

    def _end(self, error: BaseException | None) -> None:
        """Copy all that is left, unless the user has no patience. `error` is why the run ends."""
        if not isinstance(error, Exception | None):
            _log(f"not all was copied to {self.url}; {self._where_it_is()}")
            return
        try:
            self.finish()
        except InputError as failed:
            if error is None or isinstance(error, Stopped):
                raise
            if str(failed) != str(error):  # it was not the copy that ended the run
                _log(str(failed))
        else:
            self._lacks = False

    def _where_it_is(self) -> str:
        return f"what is not there yet is in {self.folder}: the same command on this machine copies it"

    def _remove_folder(self) -> None:
        if not self._lacks:
            shutil.rmtree(self.folder, ignore_errors=True)


def _folder(url: str) -> Path:
    """Where a run in a bucket is worked on; its last part is the run's name, which W&B shows."""
    place = hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_folder() / "runs" / place / url.rpartition("/")[2]


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _log(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
