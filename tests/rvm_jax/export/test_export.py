"""Exported files, each loaded and run by its own runtime as its users do, and compared with JAX."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from jax import export as jax_export

import rvm_jax
from rvm_jax.cli.main import main
from rvm_jax.export import onnx_network, parity
from rvm_jax.export.export import export
from rvm_jax.export.formats import FORMATS
from rvm_jax.export.frame_size import FrameSize
from rvm_jax.export.torch_network import MattingNetwork as TorchNetwork
from rvm_jax.matte import automatic_ratio
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.resize import scaled_size
from rvm_jax.weights.files import Weights, read_weights
from tests.rvm_jax.conftest import random_variables
from tests.rvm_jax.export.conftest import FRAMES, SIZE, saved

# PyTorch 2.13 announces that TorchScript will go, but that is what many deployments load today.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread", "few_small_frames"),
]

TOLERANCES = {"float32": 1e-4, "float16": 1e-2}  # of every single value
RATIO = automatic_ratio((37, 65), 43)  # no multiple of a power of two: its products with sizes are rounded
SETTINGS = [FrameSize(SIZE, 0.5), FrameSize((37, 65), RATIO), FrameSize((37, 65), 1.0)]


@pytest.fixture(
    scope="module", params=["deep_guided_filter", pytest.param("fast_guided_filter", marks=pytest.mark.slow)]
)
def source(request, tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("weights"), "tiny", request.param)


# How users run each kind of file. All take frames [T, 1, 3, H, W] and give, for each, fgr, pha, r1, r2, r3, r4.

Outputs = list[list[np.ndarray]]


def run_onnx(path: Path, frames: np.ndarray, ratio: float) -> Outputs:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {tensor.name: tensor for tensor in session.get_inputs()}
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[types["src"].type]
    extra = {}
    if "downsample_ratio" in types:
        rec = [np.zeros([1, 1, 1, 1], dtype)] * 4
        extra["downsample_ratio"] = np.array([ratio], np.float32)
    else:
        rec = [np.zeros(types[name].shape, dtype) for name in ("r1i", "r2i", "r3i", "r4i")]
    outputs = []
    for src in frames:
        states = dict(zip(("r1i", "r2i", "r3i", "r4i"), rec, strict=True))
        names = ["fgr", "pha", "r1o", "r2o", "r3o", "r4o"]
        fgr, pha, *rec = session.run(names, {"src": src.astype(dtype), **states, **extra})
        outputs.append([fgr, pha, *rec])
    return outputs


@torch.no_grad()
def run_torch(network: Callable[..., list[torch.Tensor]], frames: np.ndarray, ratio: float, dtype) -> Outputs:
    rec = [None] * 4
    outputs = []
    for src in frames:
        fgr, pha, *rec = network(torch.from_numpy(src).to(dtype), *rec, downsample_ratio=ratio)
        outputs.append([x.numpy() for x in (fgr, pha, *rec)])
    return outputs


def run_torchscript(path: Path, frames: np.ndarray, ratio: float) -> Outputs:
    network = torch.jit.load(path)
    assert not network.training
    return run_torch(network, frames, ratio, network.project_mat.conv.weight.dtype)


def run_state_dict(path: Path, frames: np.ndarray, ratio: float) -> Outputs:
    if path.suffix == ".safetensors":
        import safetensors.torch

        state_dict = safetensors.torch.load_file(path)
    else:
        state_dict = torch.load(path, weights_only=True)
    deep = any(name.startswith("refiner.") for name in state_dict)
    network = TorchNetwork("tiny", "deep_guided_filter" if deep else "fast_guided_filter").eval()
    network.load_state_dict(state_dict)
    return run_torch(network, frames, ratio, torch.float32)


def run_stablehlo(path: Path, frames: np.ndarray, ratio: float) -> Outputs:
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    rec = [jnp.zeros(aval.shape, aval.dtype) for aval in exported.in_avals[1:]]
    outputs = []
    for src in frames:
        fgr, pha, *rec = exported.call(jnp.asarray(src.transpose(0, 2, 3, 1)), *rec)
        outputs.append([np.asarray(x).transpose(0, 3, 1, 2) for x in (fgr, pha, *rec)])
    return outputs


def run_jax(source: Path, frames: np.ndarray, ratio: float) -> Outputs:
    matte, state, outputs = rvm_jax.load(source), None, []
    for src in frames:
        foreground, alpha, state = matte(src.transpose(0, 2, 3, 1)[:, None], state, ratio)
        outputs.append([np.asarray(x).transpose(0, 3, 1, 2) for x in (foreground[:, 0], alpha[:, 0], *state)])
    return outputs


def noise(size: tuple[int, int], batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((FRAMES, batch, 3, *size), np.float32)


def assert_agree(given: Outputs, expected: Outputs, precision: str = "float32") -> None:
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        for name, array, reference in zip(parity.OUTPUTS, one, other, strict=True):
            assert array.dtype == precision
            atol = TOLERANCES[precision]
            np.testing.assert_allclose(array.astype(np.float32), reference, rtol=0, atol=atol, err_msg=name)
    assert np.abs(expected[-1][1] - expected[0][1]).max() > 0.1, "alpha hardly changes"


RUNS = {
    "onnx": run_onnx,
    "torchscript": run_torchscript,
    "stablehlo": run_stablehlo,
    "pth": run_state_dict,
    "safetensors": run_state_dict,
}


@pytest.mark.parametrize(
    ("to", "precision"),
    [
        *(("onnx", precision) for precision in TOLERANCES),
        *(("torchscript", precision) for precision in TOLERANCES),
        ("pth", "float32"),
        ("safetensors", "float32"),
    ],
)
def test_files_for_any_size(source, to, precision, capsys):
    path = Path("made" + FORMATS[to].endings[0])
    assert main(["export", str(source), str(path), "--to", to, "--precision", precision]) == 0
    for size, ratio in SETTINGS:
        frames = noise(size)
        assert_agree(RUNS[to](path, frames, ratio), run_jax(source, frames, ratio), precision)
    report = json.loads(Path(f"{path}.parity.json").read_text())
    assert [
        FrameSize((case["height"], case["width"]), case["downsample_ratio"]) for case in report["cases"]
    ] == SETTINGS
    for case in report["cases"]:
        assert list(case["differences"]) == list(parity.OUTPUTS)
        for difference in case["differences"].values():
            assert 0 < difference["mean"] <= difference["root_mean_square"] <= difference["greatest"]
            assert difference["root_mean_square"] <= TOLERANCES[precision]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{path}: tiny, ")
    assert all(f"{w}×{h} at {ratio:.4g}" in printed[1] for (h, w), ratio in SETTINGS)
    assert f"{report['cases'][0]['differences']['fgr']['greatest']:.1e}" in printed[2]


def check_file_for_one_size(source: Path, to: str, setting: FrameSize, precision: str = "float32") -> None:
    size, ratio = setting
    path = Path("made" + FORMATS[to].endings[0])
    report = export(source, path, to, size=size, downsample_ratio=ratio, precision=precision)
    assert [(case["height"], case["width"]) for case in report["cases"]] == [size]
    frames = noise(size)
    assert_agree(RUNS[to](path, frames, ratio), run_jax(source, frames, ratio), precision)


def name_of(setting: FrameSize) -> str:
    return f"{setting.size[0]}x{setting.size[1]}@{setting.ratio}"


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("setting", SETTINGS, ids=name_of)
def test_onnx_for_one_size(source, setting, precision):
    check_file_for_one_size(source, "onnx", setting, precision)


@pytest.mark.platforms
@pytest.mark.parametrize("setting", SETTINGS[:2], ids=name_of)
def test_stablehlo(source, setting):
    check_file_for_one_size(source, "stablehlo", setting)


def test_onnx_takes_batches(deep):
    export(deep, "net.onnx")
    frames = noise((37, 65), batch=2)
    assert_agree(run_onnx(Path("net.onnx"), frames, 0.625), run_jax(deep, frames, 0.625))


def test_a_layer_4_that_dilates(tmp_path):
    """The ResNet's graph, at the size of a test."""
    from tests.rvm_jax.conftest import TINY_RESNET

    network = MattingNetwork(TINY_RESNET)
    variables = jax.tree.map(np.asarray, random_variables(network, jnp.float32))
    onnx.save(onnx_network.build(Weights(TINY_RESNET, "deep_guided_filter", variables)), tmp_path / "net.onnx")
    frames = noise((37, 65))
    matte, state, expected = rvm_jax.Matte(network, variables), None, []
    for src in frames:
        foreground, alpha, state = matte(src.transpose(0, 2, 3, 1)[:, None], state, 0.625)
        expected.append([np.asarray(x).transpose(0, 3, 1, 2) for x in (foreground[:, 0], alpha[:, 0], *state)])
    assert_agree(run_onnx(tmp_path / "net.onnx", frames, 0.625), expected)


@pytest.mark.parametrize("half", [False, True])
def test_an_onnx_file_for_one_size_knows_all_sizes(deep, half):
    """What TensorRT and other compilers want: nothing to be found out when it runs."""
    model = onnx_network.build(read_weights(deep), FrameSize((37, 65), 0.625), half=half)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Shape", "If", "Expand", "Gather", "Loop"}
    assert ("Cast" in operators) == half
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim]
        for info in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    assert all(0 not in known[name] for node in inferred.node for name in node.output)
    assert [known[name] for name in ("src", "r1i", "r4i")] == [[1, 3, 37, 65], [1, 6, 12, 20], [1, 24, 2, 3]]


def test_scales_give_the_size_of_the_network_in_any_arithmetic():
    rng = np.random.default_rng(0)
    ratios = [0.125, 0.2, 0.25, 0.3, 1 / 3, 0.375, 0.4, 0.6, 0.7, *rng.uniform(0.05, 1, 20)]
    changed = 0
    for size in range(16, 4097, 3):
        for ratio in [*ratios, min(1, 512 / size)]:
            wanted, _ = scaled_size((size, size), ratio)
            scale = onnx_network.scale_for(size, ratio)
            assert scale == np.float32(scale)
            assert abs(scale - ratio) <= 2e-7 * ratio
            assert int(np.floor(np.float32(scale) * np.float32(size))) == wanted
            assert int(np.floor(scale * size)) == wanted
            changed += scale != np.float32(ratio)
    assert changed, "the float32 nearest to the ratio would always do"


def program(*blocked: str) -> str:
    return f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"


def outputs_of(code: str, *arguments: str) -> list[np.ndarray]:
    """What a program of its own, which is given frames.npy, saves to outputs.npz."""
    environment = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)
    with np.load("outputs.npz") as arrays:
        return list(arrays.values())


def test_torchscript_needs_none_of_our_code(deep):
    export(deep, "net.torchscript", "torchscript")
    frames = noise((37, 65))
    np.save("frames.npy", frames)
    given = outputs_of(
        program("rvm_jax", "jax", "flax") + "import numpy as np, torch\n"
        "network, rec = torch.jit.load('net.torchscript'), [None] * 4\n"
        "for src in torch.from_numpy(np.load('frames.npy')):\n"
        "    fgr, pha, *rec = network(src, *rec, downsample_ratio=0.625)\n"
        "np.savez('outputs.npz', *(x.numpy() for x in (fgr, pha, *rec)))"
    )
    for array, expected in zip(given, run_jax(deep, frames, 0.625)[-1], strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-4)


@pytest.mark.platforms
def test_stablehlo_needs_jax_alone(deep):
    export(deep, "net.stablehlo", "stablehlo", size=(37, 65), downsample_ratio=0.625)
    frames = noise((37, 65))
    np.save("frames.npy", frames)
    given = outputs_of(
        program("rvm_jax", "flax", "torch") + "import numpy as np\n"
        "from jax import export\n"
        "exported = export.deserialize(bytearray(open('net.stablehlo', 'rb').read()))\n"
        "rec = [np.zeros(aval.shape, aval.dtype) for aval in exported.in_avals[1:]]\n"
        "for src in np.load('frames.npy'):\n"
        "    fgr, pha, *rec = exported.call(src.transpose(0, 2, 3, 1), *rec)\n"
        "np.savez('outputs.npz', *(np.asarray(x).transpose(0, 3, 1, 2) for x in (fgr, pha, *rec)))"
    )
    for array, expected in zip(given, run_jax(deep, frames, 0.625)[-1], strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mobilenetv3", "resnet50"])
@pytest.mark.parametrize("to", ["onnx", "torchscript", "stablehlo"])
def test_released_networks(tmp_path, variant, to):
    """Random weights amplify rounding, so what counts is what the command looks at: the root mean square."""
    source = saved(tmp_path, variant, "deep_guided_filter")
    size, ratio = SETTINGS[1]
    path = Path("made" + FORMATS[to].endings[0])
    export(source, path, to, **({"size": size, "downsample_ratio": ratio} if to == "stablehlo" else {}))
    frames = noise(size)
    for given, expected in zip(RUNS[to](path, frames, ratio), run_jax(source, frames, ratio), strict=True):
        for name, array, reference in zip(parity.OUTPUTS, given, expected, strict=True):
            assert np.sqrt(np.square(array - reference).mean()) < 1e-4, name
