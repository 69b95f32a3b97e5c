"""`rvm export` around the files that it writes: names, refusals, what is compared and what is not kept."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import av
import jax
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import rvm_jax
from rvm_jax.cli import export as export_command
from rvm_jax.cli.main import main
from rvm_jax.export import onnx_network, parity, sample_clip
from rvm_jax.export.export import export
from rvm_jax.export.formats import FORMATS
from rvm_jax.weights.files import read_weights
from tests.rvm_jax.export.conftest import FRAMES

# PyTorch 2.13 announces that TorchScript will go, but that is what many deployments load today.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread", "few_small_frames"),
]


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
    assert main(["export", str(deep), "--to", "pth", "--clip", "gone.mp4"]) == 2  # which is not looked for
    assert "net.pth exists already" in capsys.readouterr().err
    assert Path("net.pth").read_text() == "mine"
    assert main(["export", str(deep), "--to", "pth", "--force"]) == 0
    assert main(["export", str(deep), "--to", "pth"]) == 2
    assert "net.pth exists already" in capsys.readouterr().err
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
