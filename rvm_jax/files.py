"""Writing files so that a name never holds half a file."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rvm_jax.errors import InputError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path` to write a file or a folder to; it takes that name once the block ends.

    If the block raises, whatever was written is removed and `path` is as it was.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already: choose another name, or overwrite it with --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        partial = scratch / path.name
        yield partial
        if path.is_dir() and not path.is_symlink():
            path.rename(scratch / "replaced")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
