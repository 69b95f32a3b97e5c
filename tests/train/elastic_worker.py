"""A process of a training run in float64, which stops after some iterations: run by `test_elastic.py`.

Arguments: OUT, DATA_DIR, after how many iterations it stops (0: never), and perhaps COORDINATOR ID COUNT.
"""

import contextlib
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from rvm_jax.errors import Stopped
from rvm_jax.model.network import MattingNetwork
from tests.train import runs
from train import loop
from train.device import parallel, step

out, data_dir, stops_after, *hosts = sys.argv[1:]
coordinator, number, count = (hosts[0], int(hosts[1]), int(hosts[2])) if hosts else (None, None, None)
init_in_float32 = step.init


def init(network: MattingNetwork, key: jax.Array) -> step.TrainState:
    state = init_in_float32(network, key)
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


step.init = loop.init = init
step.scaled = lambda pictures: pictures.astype(jnp.float64) / 255
loop.signals.stop_requests = lambda: contextlib.nullcontext(lambda: signal.SIGTERM)
parallel.should_stop = lambda signalled, iteration: iteration == int(stops_after)

options = runs.options(
    Path(out),
    Path(data_dir),
    coordinator=coordinator,
    process_id=number,
    process_count=count,
    accumulation=2,
)
try:
    loop.train(runs.ELASTIC, options)
except Stopped as stopped:
    print(stopped, file=sys.stderr)
