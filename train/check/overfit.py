"""One batch, learned by heart: what cannot do that cannot learn from many."""

import numpy as np

from data_pipelines.pipelines.batches import Batch
from rvm_jax.host.progress import Progress
from train.check.findings import Finding
from train.device import parallel
from train.device.programs import Key, Programs
from train.device.step import TrainState

STEPS = 60
RATE = 1e-3
"""Far above the recipe's, since a hundred steps have to do."""
MOST = 0.5
"""Of the loss at first, that may be left."""


def check(programs: Programs, key: Key, state: TrainState, batch: Batch) -> Finding:
    """Train random weights (`state`, on the devices, which is used up) on one batch alone."""
    shards = parallel.shard(batch, programs.parts)
    losses: list[float] = []
    with Progress("learning one batch", "steps", STEPS) as progress:
        for done in range(1, STEPS + 1):
            state, metrics = programs.run(key, state, shards, dict.fromkeys(key.groups, RATE))
            losses.append(float(parallel.read_back(metrics)["total"]))
            progress.update(done)
    first, last = losses[0], float(np.mean(losses[-5:]))
    what = f"one batch of {key.describe()}: loss {first:.3f}, and {last:.3f} after {STEPS} steps on it alone"
    if not last <= MOST * first:  # NaN, too
        return Finding("fault", f"{what}: it should fall to half; look at the batch with `rvm data preview`")
    return Finding("fine", what)
