"""Checkpoints of a run: all that going on needs, written while training goes on.

The number of a checkpoint is how many iterations are done, which is the position in the data too. Several hosts need no
common disk: the first alone writes and reads, and the others get from it what it has read.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import absl.logging
import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing, writing
from rvm_jax.weights import orbax_folders
from train.device import parallel
from train.device.step import TrainState

MOMENTS = "moments"
RAW = "raw"
"""The weights that go on being trained where the `variables` are an average of them."""
UNFINISHED = ".orbax-checkpoint-tmp"
"""How the names of checkpoints end that orbax has not finished. It would remove them too, but at some later moment."""


class Checkpoints:
    """The last `keep` checkpoints in a folder, and the one that validated best.

    What a killed run was writing is removed. The end of the `with` block waits for what is still being written.
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = folder.resolve()  # TensorStore takes no ..
        self._manager = _open(self.folder, keep) if jax.process_index() == 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._manager is None:
            return
        try:
            self.wait()
        except InputError:
            if error is None:  # if the run ended for another reason, that one is for the user
                raise
        finally:
            self._manager.close()

    def restore(self, like: TrainState) -> tuple[int, TrainState] | None:
        """The newest checkpoint that can be read: its iterations, and its state as NumPy arrays; None in a new run.

        `like` has the shapes and dtypes that are expected. Checkpoints that cannot be read are put aside under another
        name, unless all of them are like that.
        """
        found = None
        if self._manager is not None:
            found = self._read_newest(like)
            self._manager.reload()  # to forget those that were put aside
            self._drop_unsaved_validations()
        iterations, state = found or (-1, None)
        iterations = int(multihost_utils.broadcast_one_to_all(np.int32(iterations)))
        return None if iterations < 0 else (iterations, parallel.from_first_host(state, like))

    def save(self, iterations: int, state: TrainState, *, stage: int, mad: float | None = None) -> None:
        """Begin to write NumPy arrays, and return. They may change afterwards; the next `save` waits for these.

        `mad` is what validation gave, if there was one. A checkpoint that is there already is left as it is, but for
        that: the same iterations give the same state.
        """
        if self._manager is None:
            return
        self.wait()
        try:
            if mad is not None and math.isfinite(mad):
                results = orbax_folders.validations(self.folder)
                self._write({**results, str(iterations): {"stage": stage, "mad": mad}})
            items = {orbax_folders.VARIABLES: state.variables, MOMENTS: state.moments}
            if state.average is not None:
                raw = {"params": state.params, "batch_stats": state.batch_stats}
                items[RAW] = {**raw, "steps": state.average.steps}
            args = {name: ocp.args.PyTreeSave(tree) for name, tree in items.items()}
            self._manager.save(iterations, args=ocp.args.Composite(**args))
        except Exception as error:  # orbax and TensorStore may raise anything
            raise self._cannot_save(error) from error

    def wait(self) -> None:
        """Return once all is written; raise `InputError` if it could not be."""
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._cannot_save(error) from error

    def newest(self) -> int | None:
        """The iterations of the newest checkpoint, once it is written; None on other hosts."""
        self.wait()
        return max(self._iterations(), default=None)

    def validated(self, iterations: int) -> bool:
        """Whether the state after so many iterations was validated; the same on every host."""
        validated = self._manager is not None and str(iterations) in orbax_folders.validations(self.folder)
        return bool(multihost_utils.broadcast_one_to_all(np.int32(validated)))

    def _iterations(self) -> list[int]:
        return orbax_folders.saved_iterations(self.folder) if self._manager is not None else []

    def _read_newest(self, like: TrainState) -> tuple[int, TrainState] | None:
        damaged: dict[int, str] = {}
        for iterations in reversed(self._iterations()):
            try:
                state = _read(self.folder / str(iterations), like)
            except ValueError as error:
                damaged[iterations] = orbax_folders.error_reason(error)
                continue
            for number, why in damaged.items():
                self._rename_damaged(number)
                print(f"{why}; renamed to damaged-{number}, and going on from iteration {iterations}", file=sys.stderr)
            return iterations, state
        if damaged:
            why = next(iter(damaged.values()))
            raise InputError(f"no checkpoint of this run can be read ({why}): mend it, or train in another folder")
        return None

    def _rename_damaged(self, iterations: int) -> None:
        path = self.folder / str(iterations)
        aside = path.with_name(f"damaged-{iterations}")
        try:
            if aside.exists():
                shutil.rmtree(aside)
            path.rename(aside)
        except OSError as error:
            raise InputError(f"cannot rename {path}, which is damaged, to {aside.name}: {error.strerror}") from error

    def _drop_unsaved_validations(self) -> None:
        """A killed run may have validated what it did not finish writing; it is validated again."""
        results, saved = orbax_folders.validations(self.folder), self._iterations()
        kept = {iterations: result for iterations, result in results.items() if int(iterations) in saved}
        if kept != results:
            self._write(kept)

    def _write(self, results: Mapping[str, Mapping[str, float]]) -> None:
        with replacing(self.folder / orbax_folders.VALIDATION, overwrite=True) as partial:
            partial.write_text(json.dumps(results, indent=1) + "\n")

    def _cannot_save(self, error: Exception) -> InputError:
        newest = max(self._iterations(), default=None)
        go_on = "begins anew" if newest is None else f"goes on from iteration {newest}"
        return InputError(
            f"cannot save a checkpoint in {self.folder}: {orbax_folders.error_reason(error)}; "
            f"once that is mended, the same command {go_on}"
        )


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Never: the loop asks JAX itself, whose hosts have to ask equally often and in step."""
        return False


@dataclass(frozen=True)
class _LastAndBest(ocp.checkpoint_managers.PreservationPolicy):
    folder: Path
    keep: int

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """Which checkpoints to keep; the last of them is the one that is about to be written."""
        iterations = [checkpoint.step for checkpoint in checkpoints]
        kept = {*iterations[-self.keep :], orbax_folders.best_iteration(self.folder, iterations)}
        return [i in kept for i in iterations]


def _open(folder: Path, keep: int) -> _Manager:
    absl.logging.set_verbosity(absl.logging.FATAL)  # whatever goes wrong is raised too
    _silence_echoes()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in (*folder.glob(".rvm-*"), *folder.glob(f"*{UNFINISHED}")):  # by a kill in `replacing`, and in orbax
            shutil.rmtree(left)
    options = ocp.CheckpointManagerOptions(
        create=False,
        save_root_metadata=False,
        # If it cannot make them, its other threads would wait for minutes.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        lightweight_initialize=True,
        multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}),
        preservation_policy=_LastAndBest(folder, keep),
    )
    return _Manager(folder, options=options)


@cache
def _silence_echoes() -> None:
    """Keep tracebacks off the terminal that follow an error.

    orbax gives up on the first one. Each array that TensorStore is writing then has nobody who waits for it, which
    Python prints as an unraisable exception, perhaps after the last line of the program. On a full disk that was so in
    10 of 24 runs (orbax 0.12.8).
    """
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = hook


def _read(folder: Path, like: TrainState) -> TrainState:
    variables = orbax_folders.read_arrays(folder / orbax_folders.VARIABLES)
    moments = orbax_folders.read_arrays(folder / MOMENTS)
    saved = {**variables, "moments": moments, "average": None}
    if like.average is not None:
        raw = orbax_folders.read_arrays(folder / RAW)
        saved |= {"average": {"steps": raw.pop("steps"), **variables}, **raw}
    state = flax.serialization.from_state_dict(like, saved)
    for (path, found), wanted in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(like), strict=True):
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"{folder} has {name} as {found.dtype}{found.shape}, not {wanted.dtype}{wanted.shape}")
    return state
