"""Names: of files, and in lists. Worker processes import this: nothing slow."""

from pathlib import Path

from rvm_jax.errors import InputError


def name_error(path: Path) -> str | None:
    """What is wrong with the name of a file, or None: datasets hold names as UTF-8, some file systems do not."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")
        return f"{shown} has a name that is not UTF-8: rename it"
    return None


def read_list(path: Path) -> list[str]:
    """The names of a list, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a list of names in UTF-8, one a line: save it as that") from error
    return [line.strip() for line in lines if line.strip()]
