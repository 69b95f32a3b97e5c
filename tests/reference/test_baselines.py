"""The baselines against numbers of their released PyTorch networks.

`RVM_REFERENCE=DIR pytest -m "slow or not slow" tests/reference/test_baselines.py` runs the files of another folder of
the same format, or of its `baselines`, all of them in both precisions; `data/baselines/` here, a part of the cases, is
the default. Weights and inputs are rebuilt from seeds by `baseline_recipe.py`.
"""

import json
import os
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.layers import resize
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.names import Baseline, entries
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.model.platforms import tracing_for
from rvm_jax.weights.names import to_state_dict, to_variables
from tests.reference import FOLDER, cast, compiled
from tests.reference.baseline_recipe import image, state_dict

BASELINES = FOLDER if (FOLDER / "baseline_cases.json").exists() else FOLDER / "baselines"
if not (BASELINES / "baseline_cases.json").exists():
    pytest.skip(f"{FOLDER} has no references of the baselines", allow_module_level=True)
CASES = json.loads((BASELINES / "baseline_cases.json").read_text())
VARIANTS = sorted(path.name.removesuffix(".keys.json") for path in BASELINES.glob("*.keys.json"))
# Most of the time goes into compiling.
FAST = {"modnet", "mattingrefine_mobilenetv2_sampling"}
ALL = "RVM_REFERENCE" in os.environ

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network_of(variant: str, **options: Any) -> Baseline:
    """The network of a `VARIANT.keys.json`, with options by their names in the released MattingRefine."""
    if variant.startswith("u2net"):
        return U2Net(variant)
    if variant == "modnet":
        return MODNet()
    name, backbone, *kernel = variant.split("_")
    if name == "mattingbase":
        return MattingBase(backbone)
    names = {"backbone_scale": "scale", "refine_mode": "mode"}
    options = {names.get(option, option): value for option, value in options.items()}
    return MattingRefine(backbone, **{"kernel_size": 1 if kernel else 3, **options})


@cache
def keys(variant: str) -> list[tuple[str, list[int]]]:
    return json.loads((BASELINES / f"{variant}.keys.json").read_text())


def variables_of(variant: str, network: Baseline) -> Any:
    return to_variables(state_dict(variant, keys(variant)), entries(network))


def inputs_of(case: dict[str, Any]) -> list[np.ndarray]:
    given = [image(seed, *case["shape"]).astype(np.float64) for seed in case["inputs"].values()]
    if case["variant"] == "modnet":
        return [2 * given[0] - 1]
    if case["variant"].startswith("u2net"):
        return [(given[0] / given[0].max((1, 2, 3), keepdims=True) - np.array(MEAN)) / np.array(STD)]
    return given


def named_outputs(network: Baseline, output: Any) -> dict[str, Any]:
    """Outputs by the names that they have in the reference."""
    if isinstance(network, U2Net):
        return {"d0": output.alpha, **{f"d{i}": x for i, x in enumerate(output.sides, 1)}}
    if isinstance(network, MODNet):
        return {"matte": output.alpha, "semantic": output.semantic, "detail": output.detail}
    names = ["pha", "fgr", "err", "hid"]
    if isinstance(network, MattingRefine):
        names = ["pha", "fgr", "pha_sm", "fgr_sm", "err_sm", "ref_sm"]
    return dict(zip(names, output, strict=True))


def taps(network: Baseline, inner: Any) -> dict[str, Any]:
    """Inner arrays by the names that they have in the reference."""
    if isinstance(network, U2Net):
        stages = {name: value["__call__"][0] for name, value in inner.items() if name.startswith("stage")}
        return {**stages, "logit0": inner["outconv"]["__call__"][0]}
    features = inner["encoder"]["__call__"][0]
    if isinstance(network, MODNet):
        low, high, fusion = (inner[f"{name}_branch"] for name in ("lr", "hr", "f"))
        return {
            **dict(zip(("enc2x", "enc4x", "enc8x", "enc16x", "enc32x"), features, strict=True)),
            "se": low["se_block"]["__call__"][0],
            "lr8x": low["__call__"][0][0],
            "hr2x": high["__call__"][0][0],
            "f2x": fusion["conv_f2x"]["__call__"][0],
        }
    inner_outputs = {"aspp": inner["aspp"]["__call__"][0], "raw": inner["decoder"]["__call__"][0]}
    return {**dict(zip(("x1", "x2", "x3", "x4"), features, strict=True)), **inner_outputs}


def outputs_of(network, variables, inputs):
    options = {"side_outputs": True} if isinstance(network, MODNet) else {}
    output, inner = network.apply(variables, *inputs, **options, capture_intermediates=True, mutable=["intermediates"])
    given = {**named_outputs(network, output), **taps(network, inner["intermediates"])}
    if isinstance(network, MattingRefine):
        height, width = output.alpha.shape[1:3]
        given["err_quarter"] = resize(output.coarse_error, (height // 4, width // 4))
    return given


APPLY = compiled(outputs_of, static_argnums=0)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(
            case,
            dtype,
            id=f"{case['name']}-{dtype}",
            marks=[] if case["name"] in FAST and dtype == "float64" else pytest.mark.slow,
        )
        for case in CASES
        for dtype in ("float64", "float32")
        if ALL or dtype == "float64" or case["name"] == "modnet"  # of all the noisiest
    ],
)
def test_forward(case, dtype):
    network = network_of(case["variant"], **case["options"])
    variables = cast(variables_of(case["variant"], network), dtype)
    given = APPLY[dtype](network, variables, cast(inputs_of(case), dtype))
    expected = dict(np.load(BASELINES / f"forward_{case['name']}.npz"))
    assert set(expected) == {*case["outputs"], *case["taps"]}
    noise = {**dict.fromkeys(case["outputs"], case["float32_noise"]), **case.get("tap_float32_noise", {})}
    for name in expected:
        array = given[name]
        assert array.dtype == dtype
        steps = tuple(slice(None, None, step) for step in case["strides"].get(name, [1] * array.ndim))
        tolerance = 1e-6 if dtype == "float64" else 3 * noise[name]
        np.testing.assert_allclose(array[steps], expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_entry_names_order_and_shapes(variant):
    network = network_of(variant)
    images = [jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)] * (2 if variant.startswith("matting") else 1)
    with tracing_for("cpu"):
        variables = jax.eval_shape(network.init, jax.random.key(0), *images)
    table = entries(network)
    assert {entry.path: entry.shape for entry in table} == {p: x.shape for p, x in flatten_dict(variables).items()}
    assert [(entry.name, entry.torch_shape) for entry in table] == [(n, tuple(s)) for n, s in keys(variant)]


@pytest.mark.parametrize("variant", ["modnet", "u2netp", "mattingrefine_mobilenetv2"])
def test_round_trip_is_bitwise(variant):
    given = state_dict(variant, keys(variant))
    table = entries(network_of(variant))
    made = to_state_dict(to_variables(given, table), table)
    assert list(made) == list(given)
    for name, array in given.items():
        np.testing.assert_array_equal(made[name], array, strict=True, err_msg=name)
