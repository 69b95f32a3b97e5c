"""Atomic writes: a name never holds half a file."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rvm_jax.errors import InputError

ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 50, 0.1
"""How long what is left of a failure is tried to be removed."""


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], *, overwrite: bool = False, keep: Callable[[], bool] = lambda: False
) -> Iterator[Path]:
    """Give a temporary path beside `path` to write a file or a folder to; it takes that name once the block ends.

    If the block raises, whatever was written is removed and all is as it was before: what `path` held is there, and
    folders that were made for it are gone; but if `keep` then says true, it takes that name all the same. A file never
    takes the place of a folder.
    """
    target = Path(os.path.realpath(path))
    refuse_existing(path, overwrite)
    made = [parent for parent in target.parents if not parent.exists()]
    scratch: Path | None = None
    finished = False
    try:
        with writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".rvm-", dir=target.parent))
            partial = scratch / "new"
            try:
                yield partial
            except BaseException:
                if partial.exists() and keep():
                    _exchange(partial, target, scratch / "old")
                    finished = True
                raise
            if target.is_dir() and partial.is_file():
                raise InputError(f"{path} is a folder: give the name of a file")
            _exchange(partial, target, scratch / "old")
        finished = True
    finally:
        if scratch is not None:
            _remove(scratch)
        if not finished:
            with contextlib.suppress(OSError):
                for parent in made:
                    parent.rmdir()


@contextlib.contextmanager
def recording(path: str | os.PathLike[str], *, overwrite: bool = False, keep: Callable[[], bool]) -> Iterator[Path]:
    """Give `path` itself to write to: for what cannot be made again, so that it is there if the process is killed.

    However the block ends, it is removed unless `keep` says true.
    """
    target = Path(os.path.realpath(path))
    refuse_existing(path, overwrite)
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
    _discard(target)
    try:
        yield target
    finally:
        if not keep():
            _discard(target)


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise `InputError` if something is there that is not to be overwritten."""
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already: choose another name, or overwrite it with --force")


def _discard(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        _remove(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tell errors of input and output as what they are to the user: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _remove(folder: Path) -> None:
    """Remove a folder, also if threads of a library that failed still write into it for a moment."""
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Give `new` the name `target`; what had that name goes to `old`, or stays where it is if anything fails."""
    if not target.is_dir():
        new.replace(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
