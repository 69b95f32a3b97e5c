"""What hosts that train together have to have in common, compared before anything is written."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax

from rvm_jax.errors import InputError
from train.device.hosts import Hosts
from train.recipe.options import Options
from train.run.identity import NOTHING, flat

OF_EACH_HOST = {
    *("out", "keep", "wandb", "wandb_project", "wandb_artifacts", "profile"),  # only the first writes
    *("data_dir", "data_processes", "data_threads", "compilation_cache", "cpu_devices"),
    *("coordinator", "process_id", "process_count", "local_devices"),
}
"""The options that may differ; by the others, hosts wait for each other in the same order."""


def agree(hosts: Hosts, identity: Mapping[str, Any], options: Options) -> None:
    """Return once all hosts have opened their data, and are about to train the same on as many devices each."""
    if hosts.count == 1:
        return
    own = {
        **identity,
        "options": {name: value for name, value in dataclasses.asdict(options).items() if name not in OF_EACH_HOST},
        "devices": f"{jax.local_device_count()} × {jax.local_devices()[0].device_kind}",
        "jax": jax.__version__,
    }
    if hosts.number == 0:
        hosts.say("identity", json.dumps(own))
    first = json.loads(hosts.listen("identity"))
    # As JSON has it: lists for tuples.
    if differing := _differences(first, json.loads(json.dumps(own))):
        what = "started otherwise than host 0: give all hosts the same options and the same data"
        raise InputError("\n  ".join([what, *(line.removeprefix("recipe.") for line in differing)]))
    hosts.wait("opened")


def _differences(first: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    there, here = flat(first), flat(own)
    return [
        f"{name}: {there.get(name, NOTHING)} on host 0, {here.get(name, NOTHING)} here"
        for name in there | here
        if there.get(name, NOTHING) != here.get(name, NOTHING)
    ]
