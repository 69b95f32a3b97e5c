"""A trace of some iterations by JAX's profiler, for XProf, TensorBoard or Perfetto."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import jax

from rvm_jax.host.paths import Location

NAME = "profile"


class Profile:
    """To be used as a context. Traces what of `iterations` is still to come, if any, to `folder`."""

    def __init__(
        self, iterations: range | None, folder: Path, tell: Callable[[str], None], named: Location | None = None
    ) -> None:
        """`named`: what the user calls the folder, if not by its path."""
        self._iterations = iterations or range(0)
        self._folder = folder
        self._tell = tell
        self._named = named or folder
        self._running: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def step(self, number: int) -> contextlib.AbstractContextManager[None]:
        """The block dispatches this iteration: what it begins on the devices bears its number in a trace."""
        if self._running is None and number in self._iterations:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of a function would be in it, and slow
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._running = number
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def ended(self, number: int) -> None:
        """This iteration is computed."""
        if number == self._iterations.stop - 1:
            self._stop()

    def _stop(self) -> None:
        if self._running is None:
            return
        first, self._running = self._running, None
        try:
            jax.profiler.stop_trace()
        except Exception as error:  # a full disk, which JAX tells in many ways
            self._tell(f"no profile could be written: {(str(error).splitlines() or [type(error).__name__])[0]}")
            return
        self._tell(f"profiled from iteration {first} on: `xprof --logdir {self._named}` shows it")
