"""Folders that orbax has written: the arrays in them, and which ones a training run has.

A run keeps its checkpoints in `checkpoints/<iterations done>`, each with its `variables` and the optimizer's `moments`.
Beside them `validation.json` tells what validation gave. `weights` is the network that the run ended with.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError

CHECKPOINTS = "checkpoints"
VARIABLES = "variables"
VALIDATION = "validation.json"


def read_arrays(folder: Path) -> dict[str, Any]:
    """The tree that was saved to a folder, as NumPy arrays: it may have been on devices that this machine has not."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    try:
        _read_one_by_one(folder)
        handler = ocp.PyTreeCheckpointHandler()  # alone, since a checkpointer waits for the other hosts of a run
        path = folder.absolute()
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree)
        return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    except Exception as error:  # a damaged folder may make orbax raise anything
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


def _read_one_by_one(folder: Path) -> None:
    """Raise if TensorStore cannot read an array, which orbax would meet while it reads others at the same time.

    Tracebacks of those would then spill over the terminal.
    """
    import tensorstore

    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder.absolute()}/"}}
    drivers = {".zarray": "zarr", "zarr.json": "zarr3"}
    keys = [key.decode().rpartition("/") for key in tensorstore.KvStore.open(store).result().list().result()]
    arrays = [(name, drivers[file]) for name, _, file in keys if file in drivers]
    if not arrays:
        raise ValueError("it holds no arrays")
    for name, driver in arrays:
        tensorstore.open({"driver": driver, "kvstore": {**store, "path": f"{name}/"}}).result().read().result()
