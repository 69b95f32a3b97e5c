"""A process of a training run in float64, which stops after some iterations: run by `test_elastic.py`.

Arguments: short or demo, OUT, DATA_DIR, after which iteration it stops (0: none), perhaps COORDINATOR ID COUNT.
The short run is of a network whose blocks are few and narrow, since most of its time is compiling.
"""

import contextlib
import signal
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp

from rvm_jax.errors import Stopped
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS, InvertedResidual, MobileNetV3, Variant
from tests.train import runs
from train import loop
from train.device import parallel, step
from train.recipe.published import DEMO

length, out, data_dir, stops_after, *hosts = sys.argv[1:]
coordinator, number, count = (hosts[0], int(hosts[1]), int(hosts[2])) if hosts else (None, None, None)
init_in_float32 = step.init


def init(network: MattingNetwork, key: jax.Array) -> step.TrainState:
    state = init_in_float32(network, key)
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


step.init = loop.init = init
step.scaled = lambda pictures: pictures.astype(jnp.float64) / 255
loop.signals.stop_requests = lambda: contextlib.nullcontext(lambda: signal.SIGTERM)
parallel.should_stop = lambda signalled, iteration: iteration == int(stops_after)
recipe = replace(DEMO, batch=8)
if length == "short":
    recipe = runs.ELASTIC
    encoder = MobileNetV3(4, (InvertedResidual(3, 6, 4, False, "relu", stride=2),) * 3, 6, (0, 1, 2, 4))
    VARIANTS["tiny"] = Variant("tiny", encoder, aspp=4, decoder=(4, 4, 4, 4))
options = runs.options(
    Path(out),
    Path(data_dir),
    coordinator=coordinator,
    process_id=number,
    process_count=count,
    accumulation=recipe.batch // 8,
)
try:
    loop.train(recipe, options)
except Stopped as stopped:
    print(stopped, file=sys.stderr)
