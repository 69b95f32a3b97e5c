"""Weights in buckets: fetched to be read, of a whole run no more than that, and copied there once they are written."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.paths import Location, is_url
from rvm_jax.weights.orbax_folders import (
    CHECKPOINTS,
    MARKER,
    METADATA,
    VALIDATION,
    VARIABLES,
    best_iteration,
    whole_files,
)
from rvm_jax.weights.provenance import FILE

IDENTITY = "recipe.json"
"""What a run has before its first checkpoint."""


@contextlib.contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A copy of the weights that a URL names, as long as the block runs: a file, or a folder of variables.

    If there is nothing, nor is the copy. What the block raises of the copy is raised of the URL.
    """
    with _copy_of(url) as copy:
        names = buckets.list_files(url)
        if not names:
            buckets.download_file(url, copy)
            yield copy
            return
        part = _part(url, names, copy)
        told = {f"{folder}{FILE}" for folder in ("", part.removesuffix(f"{VARIABLES}/"))}
        buckets.download(url, copy, [name for name in names if name.startswith(part) or name in told])
        run = re.fullmatch(rf"(.+)/{CHECKPOINTS}/\d+(/{VARIABLES})?/*", url)
        if run and (of_run := buckets.read(f"{run[1]}/{FILE}")) is not None:  # which speaks for its checkpoints
            (copy / part / FILE).write_bytes(of_run)
        yield copy / part


@contextlib.contextmanager
def replacing(url: str, *, overwrite: bool) -> Iterator[Path]:
    """A local path to write a file or a folder of variables to, which is copied to the URL once the block ends."""
    names = buckets.list_files(url)
    if not overwrite and (names or buckets.exists(url)):
        raise InputError(f"{url} exists already: choose another name, or overwrite it with --force")
    if names and METADATA not in names:
        raise InputError(f"{url} is a folder that holds other things than weights: choose another name")
    with _copy_of(url) as copy:
        yield copy
        if copy.is_file():
            buckets.upload(copy.parent, url.rpartition("/")[0], [copy.name])
        else:
            buckets.replace_folder(copy, url, last=MARKER)


def exists(location: Location) -> bool:
    """Whether there are weights, or anything else, of that name."""
    if is_url(location):
        return bool(buckets.list_files(location)) or buckets.exists(location)
    return os.path.lexists(location)


def weights_name(location: Location) -> str:
    """What weights are called: a file without its ending, a folder by all of its name."""
    if is_url(location):
        name = os.fspath(location).rstrip("/").rpartition("/")[2]
        return re.sub(r"\.(pth|pt|ckpt|safetensors|onnx)$", "", name, flags=re.IGNORECASE)
    path = Path(location)
    path = path if path.name not in ("", "..") else path.resolve()
    return path.name if path.is_dir() else path.stem


@contextlib.contextmanager
def _copy_of(url: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rvm-") as made:
        copy = Path(made).resolve() / url.rstrip("/").rpartition("/")[2]
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), url.rstrip("/"))) from error


def _part(url: str, names: Sequence[str], copy: Path) -> str:
    """Where below a folder the variables lie: of a run, those that `orbax_folders.variables_in` would take."""
    whole = whole_files(names)
    if IDENTITY in names or any(name.startswith(f"{CHECKPOINTS}/") for name in names):
        if f"weights/{METADATA}" in whole:
            return "weights/"
        saved = re.findall(rf"^{CHECKPOINTS}/(\d+)/{MARKER}$", "\n".join(names), re.MULTILINE)
        iterations = sorted(map(int, saved))
        if not iterations:
            unmarked = any(name.startswith(f"{CHECKPOINTS}/") for name in names)
            so_far = f"saved no checkpoint to its end, with {MARKER} in it" if unmarked else "saved no checkpoint yet"
            raise InputError(f"{url} is a training run that has {so_far}: let it train for longer")
        buckets.download(url, copy, [name for name in names if name == f"{CHECKPOINTS}/{VALIDATION}"])
        best = best_iteration(copy / CHECKPOINTS, iterations)
        return f"{CHECKPOINTS}/{iterations[-1] if best is None else best}/{VARIABLES}/"
    if any(name.startswith(f"{VARIABLES}/") for name in names):
        if MARKER not in names:
            raise InputError(
                f"{url} is a checkpoint that was not saved to its end, with {MARKER} in it: give another, or the run"
            )
        return f"{VARIABLES}/"
    if METADATA not in names:
        raise InputError(
            f"{url} is not a folder of saved weights: give a .pth or .safetensors file, a saved folder, or that of a "
            "training run"
        )
    return ""
