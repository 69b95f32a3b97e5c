"""Folders that orbax has written: the arrays in them, and which ones a training run has.

A run keeps its checkpoints in `checkpoints/<iterations done>`, each with its `variables` and the optimizer's `moments`
(and `raw` variables where those are an average).
Beside them `validation.json` tells what validation gave. `weights` is the network that the run ended with. In a bucket
each of these folders has a file more, which is written last: without it, some of the others may be missing.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.traverse_util

from rvm_jax.errors import InputError

CHECKPOINTS = "checkpoints"
VARIABLES = "variables"
VALIDATION = "validation.json"
METADATA = "_METADATA"
"""What every folder of variables has."""
MARKER = "commit_success.txt"
"""What orbax calls the last file of a folder in a bucket, too."""
ARRAY_FILES = {".zarray": "zarr", "zarr.json": "zarr3"}  # what marks an array, and how it is stored


def read_arrays(folder: Path) -> dict[str, Any]:
    """The tree of dictionaries that was saved to a folder, as NumPy arrays.

    Read with TensorStore, not with orbax, which wants to know on which devices the arrays shall be. Also, if one cannot
    be read, orbax closes its event loop before TensorStore has reported the others to it, and their tracebacks spill
    over the terminal.
    """
    import tensorstore

    try:
        store: dict[str, Any] = {"driver": "file", "path": f"{os.path.realpath(folder)}/"}  # it takes no ..
        if (folder / "manifest.ocdbt").exists():
            store = {"driver": "ocdbt", "base": store, "path": ""}
        keys = [key.decode().rpartition("/") for key in tensorstore.KvStore.open(store).result().list().result()]
        drivers = {name: ARRAY_FILES[file] for name, _, file in keys if file in ARRAY_FILES}
        if not drivers:
            raise ValueError("it holds no arrays")
        if not (folder / METADATA).exists():  # a part is missing, and who knows which other
            raise ValueError(f"it has no {METADATA}")
        context = tensorstore.Context()  # one, so that the list of where the arrays lie is read once
        opened = {}
        for name, driver in drivers.items():
            at = {"driver": driver, "kvstore": {**store, "path": f"{store['path']}{name}/"}}
            opened[tuple(name.split("."))] = tensorstore.open(at, open=True, context=context)
        begun = {path: array.result().read() for path, array in opened.items()}
        return flax.traverse_util.unflatten_dict({path: array.result() for path, array in begun.items()})
    except Exception as error:  # a damaged folder may make TensorStore raise anything
        raise InputError(
            f"{folder} is not a folder of saved weights, or it is damaged: {error_reason(error)}"
        ) from error


def variables_in(path: Path) -> Path:
    """Where the variables lie: in `path`, or in what it has of them if it is a run or one of a run's checkpoints."""
    checkpoints = path / CHECKPOINTS
    if checkpoints.is_dir():
        if (path / "weights").is_dir():
            return path / "weights"
        iterations = saved_iterations(checkpoints)
        if not iterations:
            raise InputError(f"{path} is a training run that has saved no checkpoint yet: let it train for longer")
        validated = best_iteration(checkpoints, iterations)
        path = checkpoints / str(iterations[-1] if validated is None else validated)
    return path / VARIABLES if (path / VARIABLES).is_dir() else path


def saved_iterations(checkpoints: Path) -> list[int]:
    """After how many iterations there is a checkpoint."""
    if not checkpoints.is_dir():
        return []
    return sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal())


def marked_folder(name: str) -> str | None:
    """Which of a run's folders that are marked in a bucket a file belongs to, if it belongs to one."""
    found = re.match(rf"({CHECKPOINTS}/\d+|weights)/", name)
    return found[1] if found else None


def whole_files(names: Iterable[str]) -> list[str]:
    """The files of a run in a bucket, without those of folders of which some may be missing."""
    there = dict.fromkeys(names)
    return [name for name in there if (folder := marked_folder(name)) is None or f"{folder}/{MARKER}" in there]


def best_iteration(checkpoints: Path, iterations: Iterable[int]) -> int | None:
    """Which of the iterations validated best, if any was validated.

    Stages are validated on different pictures, so that a later stage's is better whatever the errors.
    """
    results = validations(checkpoints)

    def merit(i: int) -> tuple[float, float]:
        return results[str(i)]["stage"], -results[str(i)]["mad"]

    return max((i for i in iterations if str(i) in results), key=merit, default=None)


def validations(checkpoints: Path) -> dict[str, dict[str, float]]:
    """The `stage` and the `mad` of all iterations that were validated; of none if that cannot be read."""
    try:
        return json.loads((checkpoints / VALIDATION).read_text())
    except (FileNotFoundError, ValueError):
        return {}


def error_reason(error: Exception) -> str:
    """What went wrong, in the system's words if it was the system."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # as TensorStore tells it
    if code:
        return os.strerror(int(code[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
