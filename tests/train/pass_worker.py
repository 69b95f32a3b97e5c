"""A process that makes a pass of each kind in float64 with a small network: OUT [COORDINATOR ID COUNT]."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from rvm_jax.model.network import MattingNetwork
from tests.train.runs import SMALL
from train.device import cluster, optimizer, parallel, step
from train.device.joined import split
from train.device.programs import Key, Programs
from train.run.initial_state import initial_state

out, *others = sys.argv[1:]
if others:
    cluster.join(others[0], int(others[1]), int(others[2]))
host, hosts = parallel.host()

CHANNELS = {"foreground": 3, "alpha": 1, "background": 3}
PASSES = (
    ((8, 2, 32, 48), CHANNELS, 1.0),
    ((8, 2, 96, 64), CHANNELS, 0.5),
    ((8, 2, 32, 48), {"image": 3, "mask": 1}, 1.0),
)


def in_float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


programs = Programs(MattingNetwork(SMALL, axis_name=parallel.AXIS))
state = parallel.replicate(step.joined(in_float64(initial_state(MattingNetwork(SMALL), 0))))
rng = np.random.default_rng(0)
told = {}
for number, (shape, channels, ratio) in enumerate(PASSES):
    batch = {name: rng.random((*shape, c)) for name, c in channels.items()}
    if "mask" in batch:
        batch["mask"] = (batch["mask"] > 0.5).astype(np.float64)
    part = {name: np.split(x, hosts)[host] for name, x in batch.items()}
    groups = step.groups("mask" in batch, ratio)
    key = Key("mask" in batch, shape[0], *shape[1:], ratio, groups)
    state, terms = programs.run(key, state, parallel.shard(part), dict.fromkeys(optimizer.GROUPS, 1e-3))
    told |= {f"{number}/{name}": value for name, value in parallel.read_back(terms).items()}
if host == 0:
    leaves = {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(split(parallel.read_back(state)))}
    np.savez(out, **told, **leaves)
