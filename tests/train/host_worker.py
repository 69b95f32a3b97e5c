"""`rvm train demo …` with the recipe of `runs`, and something that goes wrong on this host: FAULT OPTION...

FAULT is one of FAULTS.
"""

import os
import signal
import sys
from dataclasses import replace

from rvm_jax.host.quiet_import import quiet_import
from rvm_jax.model.variants import VARIANTS
from tests.full_disk import fill
from tests.train import runs
from train.recipe import published

LOW = runs.RECIPE.stages[0]
SKIPPED = replace(LOW, iterations=0, epochs=0)
VARIANTS["tiny"] = runs.SMALL
published.RECIPES["demo"] = replace(runs.RECIPE, stages=(replace(LOW, iterations=8), SKIPPED, SKIPPED, SKIPPED))

from rvm_jax.cli.main import main  # noqa: E402


def at_iteration(number, act):
    """Call `act(run)` when this host is about to give its devices that iteration."""
    quiet_import("data_pipelines.pipelines.batches")
    from train import loop

    dispatch = loop._dispatch

    def dispatched(run, state, iteration, *others):
        if iteration == number:
            act(run)
        return dispatch(run, state, iteration, *others)

    loop._dispatch = dispatched


def bug(run):
    raise ZeroDivisionError("division by zero")


def full_disk(run):
    """Files cannot grow beyond a few bytes from now on, whoever writes them."""
    run.checkpoints.wait()
    fill(20_000)


FAULTS = {
    "none": lambda: None,
    "bug": lambda: at_iteration(2, bug),
    "full disk": lambda: at_iteration(2, full_disk),
    "USR1": lambda: at_iteration(1, lambda run: os.kill(os.getpid(), signal.SIGUSR1)),
    "KILL": lambda: at_iteration(2, lambda run: os.kill(os.getpid(), signal.SIGKILL)),
}

fault, *arguments = sys.argv[1:]
FAULTS[fault]()
sys.exit(main(["train", "demo", *arguments]))
