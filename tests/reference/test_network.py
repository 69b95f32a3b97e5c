"""The network against numbers of the released PyTorch network.

`RVM_REFERENCE=DIR pytest tests/reference` runs the files of another folder of the same format; `data/` here is the
default. Weights and inputs are rebuilt from seeds by `recipe.py`.
"""

import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from rvm_jax.export.torch_network import MattingNetwork as TorchNetwork
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.names import entries, to_state_dict, to_variables
from tests.reference import FOLDER, cast, compiled
from tests.reference.recipe import state_dict, video

FORWARD_CASES = json.loads((FOLDER / "forward_cases.json").read_text())
TRAIN_MODE = sorted(FOLDER.glob("trainmode_*.npz"))
VARIANT_KEYS = sorted(FOLDER.glob("*.keys.json"))


@cache
def reference_weights(variant: str) -> dict[str, np.ndarray]:
    return state_dict(json.loads((FOLDER / f"{variant}.keys.json").read_text()))


def outputs_of(network, variables, frames, state, ratio, segmentation):
    return network.apply(variables, frames, state, ratio, segmentation=segmentation)


APPLY = compiled(outputs_of, static_argnums=(0, 4, 5))


def float32_noise(case, expected):
    """How far PyTorch in float32 is from float64 at most: what is stored, or more on this processor.

    Random weights amplify rounding, of single numbers most, so each order of summation has a maximum of its own: with
    and without oneDNN, PyTorch was 7 and 2 times the stored noise away on a processor with AVX2 alone.
    """
    network = TorchNetwork(case["variant"], case["refiner"])
    weights = {name: torch.tensor(array) for name, array in reference_weights(case["variant"]).items()}
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    frames = torch.tensor(np.float32(video(case["seed"], *case["shape"]))).movedim(-1, 2)
    noise = [case["float32_noise"]]
    for one_dnn in (False, True):
        torch.backends.mkldnn.enabled = one_dnn
        state, parts = [None] * 4, []
        with torch.no_grad():
            for chunk in frames.split(list(case["chunks"]), 1):
                *found, r1, r2, r3, r4 = network.eval()(
                    chunk, *state, case["downsample_ratio"], case["segmentation_pass"]
                )
                state = [r1, r2, r3, r4]
                parts.append(found)
        given = dict(zip(("r1", "r2", "r3", "r4"), state, strict=True))
        names = ("seg",) if case["segmentation_pass"] else ("fgr", "pha")
        given |= {name: torch.cat(each, 1) for name, each in zip(names, zip(*parts, strict=True), strict=True)}
        noise += [float(np.abs(x.movedim(-3, -1).numpy() - expected[name]).max()) for name, x in given.items()]
    return max(noise)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", FORWARD_CASES, ids=lambda case: case["name"])
def test_forward(case, dtype):
    table = entries(VARIANTS[case["variant"]], case["refiner"])
    variables = cast(to_variables(reference_weights(case["variant"]), table), dtype)
    network = MattingNetwork(case["variant"], case["refiner"])
    frames = cast(video(case["seed"], *case["shape"]), dtype)
    expected = dict(np.load(FOLDER / f"forward_{case['name']}.npz"))

    state, start, outputs = None, 0, []
    for length in case["chunks"]:
        chunk = frames[:, start : start + length]
        result = APPLY[dtype](network, variables, chunk, state, case["downsample_ratio"], case["segmentation_pass"])
        start, state = start + length, result.state
        outputs.append(result)

    given = {f"r{number}": r for number, r in enumerate(state, 1)}
    if case["segmentation_pass"]:
        given["seg"] = np.concatenate([part.logits for part in outputs], 1)
    else:
        given["fgr"] = np.concatenate([part.foreground for part in outputs], 1)
        given["pha"] = np.concatenate([part.alpha for part in outputs], 1)
    assert given.keys() == expected.keys()
    tolerance = 1e-6 if dtype == "float64" else 3 * float32_noise(case, expected)
    for name, array in given.items():
        assert array.dtype == dtype
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("path", TRAIN_MODE, ids=lambda path: path.stem)
def test_train_mode(path: Path):
    variant = path.stem.removeprefix("trainmode_")
    table = entries(VARIANTS[variant])
    weights = reference_weights(variant)
    variables = cast(to_variables(weights, table), "float64")
    network = MattingNetwork(variant)
    frames = cast(video(11, 2, 2, 64, 64, 3), "float64")

    @jax.jit
    def train_pass(variables, frames):
        return network.apply(variables, frames, None, 0.5, train=True, mutable=["batch_stats"])

    result, updated = train_pass(variables, frames)
    expected = dict(np.load(path))
    given = {"fgr": result.foreground, "pha": result.alpha, **to_state_dict({**variables, **updated}, table)}
    for name in expected:
        np.testing.assert_allclose(given[name], expected[name], rtol=0, atol=1e-6, err_msg=name)
    counts = [name for name in weights if name.endswith("num_batches_tracked")]
    assert all(given[name] == weights[name] + 1 for name in counts)


@pytest.mark.parametrize("path", VARIANT_KEYS, ids=lambda path: path.name.split(".")[0])
def test_entry_names_order_and_shapes(path: Path):
    variant = path.name.split(".")[0]
    listed = [(name, tuple(shape)) for name, shape in json.loads(path.read_text())]
    network = MattingNetwork(variant)
    frames = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), frames)
    table = entries(VARIANTS[variant])
    shapes = {path: leaf.shape for path, leaf in flatten_dict(variables).items()}
    assert {entry.path: entry.shape for entry in table} == shapes
    assert [(entry.name, entry.torch_shape) for entry in table] == listed
