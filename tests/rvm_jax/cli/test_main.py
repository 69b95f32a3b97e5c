"""The command, as a person runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rvm_jax.cli.main import main
from rvm_jax.export import torch_network


@pytest.fixture
def source(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "tiny.pth"
    torch.save(torch_network.MattingNetwork("tiny").state_dict(), path)
    return path


def test_convert_there_and_back(source, tmp_path, capsys):
    assert main(["convert", str(source), str(tmp_path / "folder")]) == 0
    assert main(["convert", str(tmp_path / "folder"), str(tmp_path / "back.pth")]) == 0
    count = sum(parameter.numel() for parameter in torch_network.MattingNetwork("tiny").parameters())
    output = capsys.readouterr().out.splitlines()
    assert output[1] == f"{tmp_path}/back.pth: tiny, deep guided filter, {count:,} parameters"
    original, back = (torch.load(path, weights_only=True) for path in (source, tmp_path / "back.pth"))
    assert all(torch.equal(original[name], back[name]) for name in original)


def test_what_the_user_has_to_mend_is_one_line_and_status_2(source, tmp_path, capsys):
    assert main(["convert", str(tmp_path / "none.pth"), str(tmp_path / "out.pth")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rvm: {tmp_path}/none.pth does not exist")
    assert error.count("\n") == 1
    assert main(["convert", str(source), str(source)]) == 2
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pth"]
    assert main(["convert", str(source), str(source), "--force"]) == 0


def test_an_unwritable_place_is_told(source, capsys):
    assert main(["convert", str(source), "/proc/none/out.pth"]) == 2
    assert "cannot write /proc/none/out.pth: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        (["--help"], "Example: rvm convert"),
        (["--help"], "Example: rvm export"),
        (["convert", "--help"], "Example: rvm convert"),
        (["export", "--help"], "Example: rvm export"),
    ],
)
def test_help_shows_an_example(arguments, example, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert example in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rvm-jax 0.")


def test_unknown_commands_have_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["mat"])
    assert caught.value.code == 2


@pytest.mark.parametrize("command", ["convert", "export"])
def test_importing_and_help_load_nothing_heavy(command):
    program = (
        "import sys, contextlib, rvm_jax.cli.main\n"
        f"with contextlib.suppress(SystemExit): rvm_jax.cli.main.main(['{command}', '--help'])\n"
        "print([m for m in ('jax', 'flax', 'torch', 'onnx', 'onnxruntime', 'tensorflow', 'orbax') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_loading_a_network_needs_neither_torch_nor_tensorflow():
    program = (
        "import sys, rvm_jax; rvm_jax.load, rvm_jax.Matte, rvm_jax.MattingNetwork\n"
        "print([m for m in ('torch', 'tensorflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
