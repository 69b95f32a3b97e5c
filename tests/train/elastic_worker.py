"""Training in float64 that stops after some iterations, for `test_elastic.py`; also a process that does so.

Arguments: short or demo, OUT, DATA_DIR, after which iteration it stops (0: none), perhaps COORDINATOR ID COUNT.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp

from rvm_jax.errors import Stopped
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from tests.train import runs
from train import loop
from train.device import hosts, step
from train.recipe.published import DEMO

SHORT_DEMO = replace(
    DEMO,
    batch=8,
    stages=tuple(
        replace(stage, iterations=iterations) for stage, iterations in zip(DEMO.stages, (8, 4, 4, 4), strict=True)
    ),
)
"""All of the demo in float64 would take hours."""
init_in_float32 = step.init


def init(network: MattingNetwork, key: jax.Array) -> step.TrainState:
    state = init_in_float32(network, key)
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


def stopping_after(iterations: int) -> contextlib.ExitStack:
    """All hosts are told to stop after so many iterations; 0: never."""
    reached = 0
    dispatch = loop._dispatch

    def counted(run, state, number, *others):
        nonlocal reached
        result = dispatch(run, state, number, *others)
        reached = number + 1
        return result

    def stops() -> int | None:
        return signal.SIGTERM if iterations and reached == iterations else None

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(loop, "_dispatch", counted))
    stack.enter_context(patch.object(hosts.Hosts, "agree_on_stopping", lambda self, asked: stops))
    return stack


@contextlib.contextmanager
def in_float64(stops_after: int) -> Iterator[None]:
    promotion = jax.config.jax_numpy_dtype_promotion
    # Validation weighs its clips in float32. A context would hold in this thread alone, and others compile.
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    with (
        patch.object(step, "init", init),
        patch.object(loop, "init", init),
        patch.object(step, "scaled", lambda pictures: pictures.astype(jnp.float64) / 255),
        stopping_after(stops_after),
    ):
        try:
            yield
        finally:
            jax.config.update("jax_numpy_dtype_promotion", promotion)


def train(
    length: str, out: Path, data_dir: Path, stops_after: int, together: tuple[str, int, int] | None = None
) -> None:
    """Train until it stops. Eight devices have a clip each at a time."""
    recipe = runs.ELASTIC if length == "short" else SHORT_DEMO
    coordinator, number, count = together or (None, None, None)
    options = runs.options(
        out,
        data_dir,
        coordinator=coordinator,
        process_id=number,
        process_count=count,
        accumulation=recipe.batch // 8,
    )
    with in_float64(stops_after):
        try:
            loop.train(recipe, options)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)


if __name__ == "__main__":
    length, out, data_dir, stops_after, *others = sys.argv[1:]
    if length == "short":
        VARIANTS["tiny"] = runs.SMALL
    given = (others[0], int(others[1]), int(others[2])) if others else None
    train(length, Path(out), Path(data_dir), int(stops_after), given)
