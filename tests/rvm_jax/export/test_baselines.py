"""`rvm export` of the baselines: files of each kind with their reports, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import rvm_jax
from rvm_jax.baselines.files import load, save
from rvm_jax.baselines.names import NETWORKS, entries
from rvm_jax.cli.main import main
from rvm_jax.weights import provenance
from rvm_jax.weights.names import to_variables
from rvm_jax.weights.provenance import Provenance, TrainingSet
from tests.reference.baseline_recipe import state_dict

TOLD = Provenance((TrainingSet("people", "1.0.0", "CC0-1.0", "", "yes", ""),), "modnet", "random weights")
VARIANTS = {"bgmv2_mobilenetv2": "mattingrefine_mobilenetv2", "u2netp": "u2netp", "modnet": "modnet"}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def saved(name):
    network = NETWORKS[name]
    table = entries(network)
    arrays = state_dict(VARIANTS[name], [(entry.name, list(entry.torch_shape)) for entry in table])
    save(network, to_variables(arrays, table), "net.safetensors", provenance=TOLD)
    return "net.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "to", "options"),
    [
        ("u2netp", "onnx", ["--size", "96x64"]),
        ("u2netp", "onnx", ["--size", "96x64", "--precision", "float16"]),
        ("modnet", "torchscript", ["--size", "96x64"]),
        ("bgmv2_mobilenetv2", "torchscript", ["--size", "128x96", "--downsample-ratio", "0.5"]),
        pytest.param("bgmv2_mobilenetv2", "stablehlo", ["--size", "64x48"], marks=pytest.mark.platforms),
    ],
)
def test_an_export_is_compared_with_jax(capsys, name, to, options):
    assert main(["export", saved(name), "net." + to, "--to", to, *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"net.{to}: {name}, ")
    report = json.loads(Path(f"net.{to}.parity.json").read_text())
    names = ["pha", "fgr", "pha_sm", "fgr_sm", "err_sm", "ref_sm"] if "bgmv2" in name else ["output"]
    (case,) = report["cases"]
    assert list(case["differences"]) == names
    assert f"{case['width']}x{case['height']}" == options[1]
    assert provenance.read(Path(f"net.{to}")) == TOLD
    most = 1e-2 if "float16" in options else 1e-4
    assert all(differences["greatest"] < most for differences in case["differences"].values())
    if to == "onnx":
        (given,) = onnx.load("net.onnx").graph.input
        half = given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
        assert half == ("float16" in options)


def test_what_is_exported_is_read_again(tmp_path):
    """Its folded network: heads that only training has are zero."""
    from rvm_jax.export.baselines import graphs

    network, variables = load(saved("bgmv2_mobilenetv2"))
    onnx.save(graphs.build(network, variables, None), "ours.onnx")
    again, folded = load("ours.onnx")
    assert again == network
    kernel, scale, var = (
        variables[kind]["aspp"]["project"][layer][name].astype(np.float64)
        for kind, layer, name in (
            ("params", "conv", "kernel"),
            ("params", "norm", "scale"),
            ("batch_stats", "norm", "var"),
        )
    )
    given = folded["params"]["aspp"]["project"]["conv"]["kernel"]
    np.testing.assert_allclose(given, kernel * (scale / np.sqrt(var + 1e-5)), rtol=1e-5)
    assert rvm_jax.load("ours.onnx").name == "bgmv2_mobilenetv2"


REFUSED = {
    "pth": (
        ["--to", "pth"],
        "cannot export U²-Net to pth: choose one of onnx, torchscript, stablehlo, or `rvm convert`",
    ),
    "half": (
        ["--to", "stablehlo", "--precision", "float16"],
        "float16 is not for stablehlo: export to onnx or torchscript",
    ),
    "a ratio": (["--to", "onnx", "--downsample-ratio", "0.5"], "--downsample-ratio is for BackgroundMattingV2"),
    "an ending": (["bgmv2.pth", "--to", "onnx"], "bgmv2.pth ends in '.pth': expected .onnx for onnx"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_for_them_is_refused(capsys, tmp_path, options, message):
    assert main(["export", saved("u2netp"), *options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_half_precision_would_choose_other_patches(capsys):
    assert main(["export", saved("bgmv2_mobilenetv2"), "--to", "onnx", "--precision", "float16"]) == 2
    assert "float16 is not for BackgroundMattingV2 with its refiner: its errors, rounded" in capsys.readouterr().err


def test_sizes_that_they_cannot_take_are_refused(capsys):
    assert main(["export", saved("modnet"), "--to", "onnx", "--size", "100x64"]) == 2
    assert "--size 100x64: this network takes sides that are multiples of 32" in capsys.readouterr().err


def test_convert_both_ways(capsys):
    source = saved("u2netp")
    for name in ("folder", "net.ckpt", "again.safetensors"):
        assert main(["convert", source, name]) == 0
        assert capsys.readouterr().out == f"{name}: u2netp, 1,131,181 parameters\n"
        assert provenance.read(Path(name)) == TOLD
        source = name
    rvm_jax.save(rvm_jax.load("folder"), "saved.safetensors")
    assert provenance.read(Path("saved.safetensors")) == TOLD
    assert Path("again.safetensors").read_bytes() == Path("net.safetensors").read_bytes()
