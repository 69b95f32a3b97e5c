"""Whole training runs of the released network, losses and optimizer, followed by the code that trains here."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.names import entries, to_state_dict, to_variables
from tests.reference import FOLDER
from tests.reference.recipe import video
from tests.reference.test_losses import NAMES
from tests.reference.test_network import cast, reference_weights
from train.device import step
from train.device.joined import split

TRAJECTORIES = [(path, "float64") for path in sorted(FOLDER.glob("trajectory_*.json"))]
TRAJECTORIES.append((FOLDER / "trajectory_stage1_mobilenetv3.json", "float32"))
GROUPS = {"encoder": "backbone", "project_mat": "decoder", "project_seg": "decoder"}
# A tensor whose gradient is zero but for rounding has nothing to compare relatively.
RELATIVE, ABSOLUTE = 1e-6, 1e-9


class Seeds:
    """Inputs drawn with one seed after another."""

    def __init__(self, first: int, dtype: str):
        self.seed, self.dtype = first, dtype

    def draw(self, shape, channels):
        self.seed += 1
        return video(self.seed - 1, *shape, channels)

    def batch(self, kind, shape):
        if kind.startswith("mat"):
            pictures = {n: self.draw(shape, c) for n, c in (("foreground", 3), ("alpha", 1), ("background", 3))}
        else:
            pictures = {"image": self.draw(shape, 3), "mask": self.draw(shape, 1) > 0.5}
        return {name: jnp.asarray(x, self.dtype) for name, x in pictures.items()}


def passes(reference):
    """Kind, shape and ratio of every pass, in order."""
    b, t, h, w = reference["shape_lr"]
    for iteration in range(reference["iterations"]):
        yield "mat_lr", (b, t, h, w), 1.0
        if reference["high_resolution"]:
            yield "mat_hr", tuple(reference["shape_hr"]), reference["downsample_ratio"]
        yield ("seg_image", (b * t, 1, h, w), 1.0) if iteration % 2 else ("seg_video", (b, t, h, w), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "dtype"), TRAJECTORIES, ids=lambda given: getattr(given, "stem", given))
def test_trajectory(path: Path, dtype):
    reference = json.loads(path.read_text())
    table = entries(VARIANTS[reference["variant"]])
    network = MattingNetwork(reference["variant"])
    variables = cast(to_variables(reference_weights(reference["variant"]), table), dtype)
    state = step.joined(step.from_variables(variables))
    given = reference["learning_rates"]
    rates = {group: given[GROUPS.get(group, group)] for group in variables["params"]}

    @partial(jax.jit, static_argnums=2)
    def one_pass(state, batch, ratio):
        return step.train_pass(network, state, batch, rates, ratio)

    seeds = Seeds(reference["first_input_seed"], dtype)
    seen = set()
    relative, absolute = (RELATIVE, ABSOLUTE) if dtype == "float64" else (0.02, 2e-4)
    for (kind, shape, ratio), logged in zip(passes(reference), reference["log"], strict=True):
        assert logged["pass"] == kind
        before = state
        state, metrics = one_pass(state, seeds.batch(kind, shape), ratio)
        for ours, theirs in NAMES.items():
            if theirs in logged:
                np.testing.assert_allclose(metrics[ours], logged[theirs], rtol=relative, err_msg=f"{kind} {ours}")
        if kind not in seen and dtype == "float64":
            gradients = gradients_between(split(before.moments), split(state.moments))
            check_gradients(gradients, variables, table, reference["first_gradient_norms"][kind])
        seen.add(kind)

    final = to_state_dict(split({"params": state.params, "batch_stats": state.batch_stats}), table)
    assert final.keys() == reference["final_norm_and_sum"].keys()
    for name, (norm, total) in reference["final_norm_and_sum"].items():
        array = np.asarray(final[name], np.float64)
        np.testing.assert_allclose(np.linalg.norm(array), norm, rtol=relative, atol=absolute, err_msg=name)
        if dtype == "float64":
            np.testing.assert_allclose(array.sum(), total, rtol=relative, atol=1e-6, err_msg=name)


def gradients_between(before, after):
    """What moved Adam's first moment: m' = 0.9 m + 0.1 g, for the groups that were stepped."""
    return {
        group: jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, before[group].mu, stepped.mu)
        for group, stepped in after.items()
        if stepped.count > before[group].count
    }


def check_gradients(gradients, variables, table, expected):
    """The norm of every tensor's gradient; what the pass does not use has none there and none here."""
    zeros = jax.tree.map(jnp.zeros_like, variables)
    arrays = to_state_dict({**zeros, "params": {**zeros["params"], **gradients}}, table)
    for name, norm in expected.items():
        np.testing.assert_allclose(np.linalg.norm(arrays[name]), norm, rtol=RELATIVE, atol=ABSOLUTE, err_msg=name)
    unexpected = {name for name in arrays if np.any(arrays[name]) and name not in expected}
    assert unexpected == set()
