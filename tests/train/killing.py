"""Saves one checkpoint after the other until it is killed, and prints how far it is: run by `test_checkpoint.py`.

Arguments: FOLDER, and perhaps the number of the checkpoint while it writes which it kills itself.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from train.device.step import TrainState
from train.run.checkpoint import Checkpoints


def state_after(iterations: int) -> TrainState:
    """A small state that follows from the number of iterations."""
    rng = np.random.default_rng(iterations)

    def tree() -> dict[str, np.ndarray]:
        wide, narrow = rng.standard_normal((64, 129)), rng.standard_normal(7)
        return {"kernel": wide.astype(np.float32), "bias": -np.zeros(5, np.float32), "wide": narrow}

    params = {"encoder": tree(), "refiner": tree()}
    statistics = {"encoder": {"mean": tree()["wide"], "count": np.array(iterations, np.int32)}}
    moments = {group: optax.ScaleByAdamState(np.array(iterations, np.int32), tree(), tree()) for group in params}
    return TrainState(params, statistics, moments)


def same_bits(one: TrainState, other: TrainState) -> bool:
    """Whether two states are alike to the last bit, dtypes and the kinds of nodes included."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs)


def kill_while_writing(checkpoints: Checkpoints, iterations: int) -> None:
    """Begin to write a checkpoint of 64 MB, which no disk has in the moment that is left."""
    large = {"large": np.random.default_rng(iterations).standard_normal(2**23)}
    checkpoints.wait()
    checkpoints.save(iterations, state_after(iterations)._replace(batch_stats=large), stage=1, mad=1e-3)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    with Checkpoints(Path(sys.argv[1]), keep=2) as checkpoints:
        done, state = checkpoints.restore(state_after(0)) or (0, state_after(0))
        assert same_bits(state, state_after(done))
        while True:
            print(done, flush=True)
            done += 1
            if [str(done)] == sys.argv[2:]:
                kill_while_writing(checkpoints, done)
            checkpoints.save(done, state_after(done), stage=1, mad=1 / done if done % 3 == 0 else None)


if __name__ == "__main__":
    main()
