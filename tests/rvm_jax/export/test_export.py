"""Exported files, each loaded and run by its own runtime as its users do, and compared with JAX."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import av
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from jax import export as jax_export
from PIL import Image

import rvm_jax
from rvm_jax.cli import export as export_command
from rvm_jax.cli.main import main
from rvm_jax.export import onnx_network, parity, sample_clip
from rvm_jax.export.export import export
from rvm_jax.export.formats import FORMATS
from rvm_jax.export.frame_size import FrameSize
from rvm_jax.export.torch_network import MattingNetwork as TorchNetwork
from rvm_jax.matte import automatic_ratio
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.resize import scaled_size
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.files import Weights, read_weights, write_weights
from tests.rvm_jax.conftest import random_variables

# PyTorch 2.13 announces that TorchScript will go, but that is what many deployments load today.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]

TOLERANCES = {"float32": 1e-4, "float16": 1e-2}  # of every single value
SIZE = (72, 128)  # of the frames that the command compares on here, and then those of 37×65
RATIO = automatic_ratio((37, 65), 43)  # no multiple of a power of two: its products with sizes are rounded
SETTINGS = [FrameSize(SIZE, 0.5), FrameSize((37, 65), RATIO), FrameSize((37, 65), 1.0)]
FRAMES = 3


@pytest.fixture(autouse=True)
def few_small_frames(monkeypatch, tmp_path):
    """What the command compares on, and a folder of its own to write to."""
    monkeypatch.setattr("rvm_jax.export.export.DRAWN_SIZE", SIZE)
    monkeypatch.setattr("rvm_jax.export.export.FRAMES", FRAMES)
    monkeypatch.chdir(tmp_path)


def saved(folder: Path, variant: str, refiner: str) -> Path:
    """A file of random weights."""
    variables = random_variables(MattingNetwork(variant, refiner), jnp.float32)
    path = folder / "net.safetensors"
    write_weights(Weights(VARIANTS[variant], refiner, jax.tree.map(np.asarray, variables)), path)
    return path


@pytest.fixture(
    scope="module", params=["deep_guided_filter", pytest.param("fast_guided_filter", marks=pytest.mark.slow)]
)
def source(request, tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("weights"), "tiny", request.param)


@pytest.fixture(scope="module")
def deep(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("weights"), "tiny", "deep_guided_filter")


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


# What the command does around it


def test_the_command_offers_all_formats():
    assert get_args(get_type_hints(export_command.export)["to"]) == (*FORMATS, "hub")


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("value", [0.1, np.nan])
def test_what_does_not_agree_is_not_kept(deep, to, value, monkeypatch, capsys):
    """One wrong weight of many thousand, or one that is not a number."""
    good = FORMATS[to]

    def write_wrong(loaded, path, setting, half):
        variables = jax.tree.map(np.copy, loaded.variables)
        variables["params"]["decoder"]["conv0b"]["kernel"][1, 1, 0, 0] += value
        good.write(replace(loaded, variables=variables), path, setting, half)

    monkeypatch.setitem(FORMATS, to, replace(good, write=write_wrong))
    options = ["--size", "65x37", "--downsample-ratio", "0.625"] if good.size == "one" else []
    name = f"net{good.endings[0]}"
    command = ["export", str(deep), f"new/{name}", "--to", to, *options]
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith(f"rvm: {name} was not kept: at ")
    assert "from that of JAX" in error[0]
    assert len(error) == 1 + 1 + len(parity.OUTPUTS) + 1  # and the table
    assert not any(Path().iterdir())

    Path(name).write_text("older")
    Path(f"{name}.parity.json").write_text("older")
    assert main(["export", str(deep), name, "--to", to, *options, "--force"]) == 2
    assert {path.name: path.read_text() for path in Path().iterdir()} == dict.fromkeys(
        (name, f"{name}.parity.json"), "older"
    )


def test_a_state_that_is_not_carried_is_noticed(deep):
    run = parity.jax_run(rvm_jax.load(deep))
    clip = sample_clip.draw((37, 65), FRAMES)
    same = parity.compare(run, run, clip, 1.0)
    forgetful = parity.compare(lambda src, state, ratio: run(src, None, ratio), run, clip, 1.0)
    assert {difference["greatest"] for difference in same.values()} == {0}
    for name in parity.OUTPUTS:
        assert forgetful[name]["root_mean_square"] > 1e-3, name


def test_a_wrong_shape_is_no_agreement(deep):
    run = parity.jax_run(rvm_jax.load(deep))

    def cropped(src, state, ratio):
        fgr, *others = run(src, state, ratio)
        return [fgr[..., :-1], *others]

    differences = parity.compare(cropped, run, sample_clip.draw((37, 65), 2), 1.0)
    assert differences["fgr"] == dict.fromkeys(parity.MEASURES, np.inf)
    assert differences["pha"]["greatest"] == 0


def test_the_measures():
    one = [np.full((1, 1, 1, 4), 0.0)] * 6
    steps = iter([[0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.5]])

    def run(src, state, ratio):
        return [np.array(next_values).reshape(1, 1, 1, 4) for next_values in [next(steps)] * 6]

    differences = parity.compare(run, lambda src, state, ratio: one, np.zeros((2, 4, 4, 3), np.uint8), 1.0)
    expected = {"greatest": 0.5, "root_mean_square": np.sqrt((7 * 0.01 + 0.25) / 8), "mean": 1.2 / 8}
    assert differences["pha"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--to", "torchscript"], "net.torchscript"),
        (["--to", "onnx", "--size", "65x37"], "net_65x37.onnx"),
        (["--to", "onnx", "--size", "65×37", "--precision", "float16"], "net_65x37_float16.onnx"),
        (["--to", "onnx", "--size", "37x65", "--portrait"], "net_37x65_portrait.onnx"),
    ],
)
def test_names_by_default(deep, options, name):
    assert main(["export", str(deep), *options]) == 0
    assert {path.name for path in Path().iterdir()} == {name, f"{name}.parity.json"}
    if "--size" in options:
        model = onnx.load(name)
        given = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
        assert given == [1, 3, *((65, 37) if "--portrait" in options else (37, 65))]


def test_weights_are_not_overwritten_by_what_is_made_of_them(deep, capsys):
    before = Path(deep).read_bytes()
    assert main(["export", str(deep), str(deep), "--to", "safetensors", "--force"]) == 2
    assert "holds the weights that are to be exported: name another file" in capsys.readouterr().err
    assert Path(deep).read_bytes() == before


def test_an_existing_file_stays_unless_forced(deep, capsys):
    Path("net.pth").write_text("mine")
    assert main(["export", str(deep), "--to", "pth"]) == 2
    assert "net.pth exists already" in capsys.readouterr().err
    assert Path("net.pth").read_text() == "mine"
    assert main(["export", str(deep), "--to", "pth", "--force"]) == 0
    assert read_weights("net.pth").variant.name == "tiny"


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_ones_own_clip(deep, kind):
    frames = sample_clip.draw((48, 80), 4)
    if kind == "video":
        with av.open("clip.mkv", "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 80, 48, "bgr0"
            for array in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
            container.mux(stream.encode())
        clip = Path("clip.mkv")
    else:
        clip = Path("clip")
        clip.mkdir()
        (clip / "notes.txt").write_text("not a picture")
        for number, array in enumerate(frames):
            Image.fromarray(array).save(clip / f"{number:02}.png")
    np.testing.assert_array_equal(sample_clip.read(clip, 3), frames[:3])
    report = export(deep, "net.pth", "pth", clip=clip)
    assert report["clip"] == str(clip)
    assert [(case["height"], case["width"], case["frames"]) for case in report["cases"]] == [
        *((48, 80, FRAMES), (27, 41, FRAMES), (27, 41, FRAMES)),
    ]


def test_the_drawn_clip_moves_and_is_the_same_at_any_size():
    small, large = (sample_clip.draw(size, 3).astype(float) for size in ((36, 64), (72, 128)))
    assert np.abs(small[1] - small[0]).mean() > 2
    halved = large.reshape(3, 36, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean() < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "stablehlo"], "one size: say which, as in --size 1920x1080"),
        (["--to", "torchscript", "--size", "65x37"], "--size is not for torchscript"),
        (["--to", "onnx", "--size", "1080"], "--size 1080: expected WIDTHxHEIGHT"),
        (
            ["--to", "onnx", "--size", "1080x1920"],
            "wide and 1920 high: if that is meant, add --portrait; for frames 1920",
        ),
        (["--to", "onnx", "--size", "65x37", "--portrait"], "for frames taller than wide, but --size 65x37 is not"),
        (["--to", "onnx", "--portrait"], "--portrait belongs to --size"),
        (["--to", "onnx", "--size", "8x8"], "each side needs 16"),
        (["--to", "onnx", "--size", "64x64", "--downsample-ratio", "2"], "downsample_ratio is 2.0"),
        (["--to", "onnx", "--downsample-ratio", "0.5"], "--downsample-ratio belongs to --size"),
        (["--to", "pth", "--precision", "float16"], "not for pth: export to onnx or torchscript"),
        (["out.pth", "--to", "onnx"], "ends in '.pth': expected .onnx"),
        (["out", "--to", "torchscript"], "ends in '': expected .torchscript or .pt"),
        (["--to", "pth", "--clip", "nothing.mp4"], "nothing.mp4 does not exist"),
        (["--to", "pth", "--clip", "empty"], "empty holds no pictures"),
        (["--to", "pth", "--clip", "text.mp4"], "text.mp4 cannot be read as a video"),
        (["folder.onnx", "--to", "onnx", "--force"], "folder.onnx is a folder"),
    ],
)
def test_what_the_user_has_to_mend(deep, arguments, message, capsys):
    Path("empty").mkdir()
    Path("folder.onnx").mkdir()
    Path("text.mp4").write_text("no video")
    before = sorted(Path().iterdir())
    assert main(["export", str(deep), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rvm: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(Path().iterdir()) == before


def test_pictures_of_several_sizes_are_refused(deep):
    Path("clip").mkdir()
    for number in range(2):
        Image.new("RGB", (40 + number, 40)).save(f"clip/{number}.png")
    with pytest.raises(rvm_jax.InputError, match="bring all to one size"):
        sample_clip.read(Path("clip"), 3)


def test_an_encoder_alone_is_refused(deep, capsys):
    loaded = read_weights(deep)
    arrays = onnx_network.to_state_dict(loaded.variables, loaded.table)
    torch.save({name: torch.tensor(array) for name, array in arrays.items() if name.startswith("backbone")}, "e.pth")
    assert main(["export", "e.pth", "--to", "onnx"]) == 2
    assert "e.pth holds an encoder alone, which cannot matte" in capsys.readouterr().err


def test_what_is_not_installed_is_told(deep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(deep), "--to", "onnx"]) == 2
    assert "needs onnxruntime: pip install 'rvm-jax[torch]'" in capsys.readouterr().err


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
