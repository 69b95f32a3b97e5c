"""Experiment tracking: `metrics.jsonl`, Weights & Biases, and a bar or lines for the person who waits.

In the run's folder are

    metrics.jsonl     every number (see `metrics_file`); after a resume, what an uninterrupted run would have written
    sessions.jsonl    when and where the run was started, and started again
    time_spent.json   where the time of each session went (see `goodput`)
    validation/       pictures: <iterations done>.png and .mp4
    wandb/            what W&B keeps; `wandb sync RUN/wandb/offline-run-*` sends what was recorded offline
    wandb_id          the W&B run that all sessions belong to; its link in wandb_url
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from tqdm import tqdm

from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import buckets
from rvm_jax.host.files import writing
from rvm_jax.host.paths import Location
from rvm_jax.report.contact_sheet import write_film, write_grid
from train.device.evaluation import ValidationClip
from train.recipe.options import WandbMode
from train.tracking import goodput, metrics_file, validation_pictures, wandb_mirror
from train.tracking.clock import Clock
from train.tracking.provenance import provenance

SECONDS_BETWEEN_FLUSHES = 5.0
SECONDS_BETWEEN_LINES = 30.0
PATIENCE = 60.0
"""Seconds that W&B has to send the rest at the end; a run that is stopped gives it a sixth of them."""
TOLD_FROM = 0.05
"""The share of the time that devices wait for data which is worth a word in a line of progress."""
WANDB_IS_OFF = "W&B is off, and the run goes on without it"
WINDOW = 100
"""Iterations by which speed is judged. It is their median that counts, for some of them compile."""


class Tracker:
    """To be used as a context. On all hosts but the first it is silent."""

    def __init__(
        self,
        folder: Path,
        done: int,
        total: int,
        *,
        wandb: WandbMode = "auto",
        validated: bool = True,
        project: str | None = None,
        artifacts: bool = False,
        clock: Clock | None = None,
        session: Mapping[str, Any] = MappingProxyType({}),
        silent: bool = False,
        named: Location | None = None,
    ):
        """Go on after `done` of `total` iterations; the folder has the run's `recipe.json` already.

        `validated`: whether the validation after so many iterations is done, if there is one, and not to be repeated.
        `project`, `artifacts`: of W&B, see `Options`.
        `clock`: of this session, if it is to be kept where the time goes.
        `session`: what is kept of how this session trains, beside its provenance.
        `named`: what the user calls the folder, if not by its path.
        """
        self._silent = silent
        if silent:
            return
        self._folder = folder
        self._wandb = buckets.join(named or folder, "wandb")
        self._clock = clock
        with writing(folder):
            undone = metrics_file.rewind(folder / metrics_file.NAME, done, validated=validated)
            lost = sum(numbers.get("seconds/compute", 0.0) for numbers in undone)
            self._earlier = goodput.repeated(goodput.read(folder), lost)
            if undone:
                goodput.write(folder, self._earlier)
            metrics_file.add_session(folder / metrics_file.SESSIONS, {**provenance(), **session, "iteration": done})
            self._file = (folder / metrics_file.NAME).open("ab")
        self._bar = tqdm(
            initial=done,
            total=total,
            bar_format="{l_bar}{bar}| {n_fmt} of {total_fmt}{postfix}",
            dynamic_ncols=True,
            disable=None,  # None: only on a terminal
        )
        self._total = total
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._rates: deque[float] = deque(maxlen=WINDOW)
        self._waits: deque[float] = deque(maxlen=WINDOW)
        self._stage: object = None
        self._iteration_ended = self._flushed = self._printed = time.monotonic()
        self._mirror: subprocess.Popen[str] | None = None
        mode = wandb_mirror.resolve_mode(wandb)
        if mode != "disabled":
            try:
                self._mirror = wandb_mirror.start(folder, mode, project, artifacts=artifacts)
                self.message(f"W&B: {mode}, in {self._wandb}")
            except OSError as error:
                self.message(f"{WANDB_IS_OFF}: {error.strerror or error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._silent:
            return
        self._bar.close()
        try:
            with contextlib.nullcontext() if kind is None else contextlib.suppress(InputError), writing(self._folder):
                self._file.close()
                if (sessions := self._keep_time()) and isinstance(error, Stopped | None):
                    self.message(goodput.describe(sessions))
        finally:
            self._end_mirror(PATIENCE if kind is None else PATIENCE / 6)

    def log_iteration(self, number: int, numbers: Mapping[str, Any]) -> None:
        """The numbers of an iteration, by name, among them `stage` and `frames_per_second`."""
        if self._silent:
            return
        now = time.monotonic()
        if numbers["stage"] != self._stage:
            self._stage = numbers["stage"]
            for window in (self._seconds, self._rates, self._waits):
                window.clear()  # a stage of larger or longer clips takes another time
        self._seconds.append(now - self._iteration_ended)
        self._rates.append(float(numbers["frames_per_second"]))
        self._waits.append(float(numbers.get("data_wait", 0.0)))
        self._iteration_ended = now
        self._write(number, {**numbers, **self._goodput()})
        if now - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self._flushed = now
            with writing(self._folder):
                self._file.flush()
            self._keep_time()
            if self._mirror is not None and self._mirror.poll() is not None:
                self._end_mirror(PATIENCE)
        self._show_progress(number + 1, numbers, now)

    def log_validation(self, done: int, numbers: Mapping[str, Any], shown: Sequence[ValidationClip]) -> None:
        """The numbers of a validation after `done` iterations, and some of its clips with their mattes."""
        if self._silent:
            return
        if shown:
            stem = str(self._folder / "validation" / str(done))
            try:
                write_grid(validation_pictures.sheet(shown), Path(f"{stem}.png"), overwrite=True)
                write_film(validation_pictures.film(shown[0]), Path(f"{stem}.mp4"), overwrite=True)
            except InputError as error:
                self.message(str(error))
        self._write(done, numbers)
        self.flush()
        self._iteration_ended = time.monotonic()  # the time that it took is no iteration's

    def flush(self) -> None:
        """Put all that was logged on the disk: before a checkpoint, which must not be ahead of its metrics."""
        if self._silent:
            return
        with writing(self._folder):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._keep_time()

    def message(self, line: str) -> None:
        """A line for the person who waits."""
        if self._silent:
            return
        self._bar.write(line, file=sys.stderr)
        with contextlib.suppress(InputError):  # which who writes more will meet as well
            self._keep_time()

    def _write(self, iteration: int, numbers: Mapping[str, Any]) -> None:
        with writing(self._folder):
            self._file.write(metrics_file.encode({"iteration": iteration, **numbers, "time": round(time.time(), 3)}))

    def _goodput(self) -> dict[str, float]:
        """So far, over all sessions."""
        if self._clock is None:
            return {}
        return {"goodput": round(goodput.share(goodput.total([*self._earlier, self._clock.seconds])), 6)}

    def _keep_time(self) -> list[goodput.Seconds]:
        """Write where the time went, and give it."""
        if self._clock is None:
            return []
        sessions = [*self._earlier, self._clock.now()]
        goodput.write(self._folder, sessions)
        return sessions

    def _show_progress(self, done: int, numbers: Mapping[str, Any], now: float) -> None:
        left = tqdm.format_interval((self._total - done) * statistics.median(self._seconds))
        waits = statistics.fmean(self._waits)
        waiting = f"{waits:.0%} of the time waiting for data, " if waits >= TOLD_FROM else ""
        progress = f"{_loss(numbers)}{statistics.median(self._rates):.1f} frames/s, {waiting}{left} left"
        stage = f"stage {numbers['stage']}"
        self._bar.set_description(stage, refresh=False)
        self._bar.set_postfix_str(progress, refresh=False)
        self._bar.update()
        if self._bar.disable and (now - self._printed > SECONDS_BETWEEN_LINES or done == self._total):
            self._printed = now
            self.message(f"{stage}: {done} of {self._total} iterations, {progress}")

    def _end_mirror(self, patience: float) -> None:
        if self._mirror is None:
            return
        process, self._mirror = self._mirror, None
        try:
            _, errors = process.communicate(timeout=patience)  # closes its standard input, which ends it
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.message(f"W&B has not taken all within {patience:.0f} s: `wandb sync` sends what is in {self._wandb}")
            return
        if process.returncode:
            reason = (errors.splitlines() or [f"status {process.returncode}"])[-1]
            self.message(f"{WANDB_IS_OFF}: {reason}")


def _loss(numbers: Mapping[str, Any]) -> str:
    """The loss of the first pass, for a line of progress."""
    totals = [float(number) for name, number in numbers.items() if name.endswith("/total")]
    return f"loss {totals[0]:.4f}, " if totals else ""
