"""The command, as a person runs it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rvm_jax.cli import convert
from rvm_jax.cli.main import COMMANDS, main
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
    assert main(["convert", str(source), str(tmp_path / "net.onnx")]) == 2
    assert "no ending for a JAX folder; `rvm export` writes ONNX\n" in capsys.readouterr().err


def test_an_unwritable_place_is_told(source, capsys):
    assert main(["convert", str(source), "/proc/none/out.pth"]) == 2
    assert "cannot write /proc/none/out.pth: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_the_overview_is_a_line_a_command(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 110
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


def test_without_a_command_the_overview_goes_to_stderr(capsys):
    assert main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: rvm COMMAND")


@pytest.mark.parametrize("module", ["rvm_jax", "rvm_jax.cli.main"])
def test_python_runs_it_as_a_module(module):
    result = subprocess.run([sys.executable, "-m", module, "mate"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "rvm: there is no command mate: did you mean `rvm matte`? `rvm --help` lists all\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    help_of_option = capsys.readouterr().out
    assert help_of_option.startswith(f"usage: rvm {command} [-h]")
    with pytest.raises(SystemExit):
        main(["help", command])
    assert capsys.readouterr().out == help_of_option


@pytest.mark.parametrize("command", ["convert", "data check", "evaluate", "export", "matte", "serve", "train demo"])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: rvm {command} ")
    assert f"Example: rvm {command}" in output


@pytest.mark.parametrize("columns", [80, 100])
def test_help_fits_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main(["matte", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("Example: ")) == columns


def test_help_is_wrapped_where_the_terminal_ends_and_nowhere_else(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "250")
    with pytest.raises(SystemExit):
        main(["matte", "--help"])
    assert "a JAX folder, or the folder of a training run; gs:// and s3:// too." in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rvm-jax 0.")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("mat", "there is no command mat: did you mean `rvm matte`? `rvm --help` lists all"),
        ("evalaute", "there is no command evalaute: did you mean `rvm evaluate`? `rvm --help` lists all"),
        ("xyzzy", "there is no command xyzzy: `rvm --help` lists all"),
        ("--force", "--force comes before any command: expected rvm COMMAND ..., and `rvm --help` lists the commands"),
    ],
)
def test_what_is_no_command_gets_one_line_and_status_2(word, expected, capsys):
    assert main([word, "in.mp4"]) == 2
    assert capsys.readouterr().err == f"rvm: {expected}\n"


def test_completion_knows_all_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--tyro-print-completion", "bash"])
    assert not caught.value.code
    script = capsys.readouterr().out
    for command in [*COMMANDS, "testset", "mobilenetv3"]:
        assert command in script


@pytest.mark.parametrize(
    ("module", "extra"),
    [("tensorflow", "train"), ("wandb", "train"), ("torch", "torch"), ("onnx", "torch"), ("starlette", "web")],
)
def test_a_missing_extra_is_named(module, extra, monkeypatch, capsys):
    monkeypatch.setattr(convert, "convert", missing(module))
    assert main(["convert", "a", "b"]) == 2
    assert capsys.readouterr().err == f"rvm: {module} is not installed: this needs pip install 'rvm-jax[{extra}]'\n"


@pytest.mark.parametrize("module", ["fcntl", "rvm_jax.none", "tensorflow.none"])
def test_other_missing_modules_are_no_extras(module, monkeypatch):
    """What no extra brings is an error of ours, or a broken installation: its traceback is not hidden."""
    monkeypatch.setattr(convert, "convert", missing(module))
    with pytest.raises(ModuleNotFoundError, match=module):
        main(["convert", "a", "b"])


def missing(module: str) -> Callable[[str, str], None]:
    """A command that wants a module which is not there."""

    def command(source: str, target: str, /) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    return command


def test_who_reads_only_the_first_lines_sees_no_traceback():
    program = "import sys; from rvm_jax.cli.main import main; sys.exit(main(['--tyro-print-completion', 'bash']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


HEAVY = ("jax", "flax", "orbax", "torch", "onnx", "onnxruntime", "tensorflow", "train", "data_pipelines")


@pytest.mark.parametrize("arguments", ["--help", "matte --help", "convert --help", "export --help"])
def test_help_loads_nothing_heavy_and_no_other_command(arguments):
    program = (
        "import sys, contextlib, rvm_jax.cli.main\n"
        f"with contextlib.suppress(SystemExit): rvm_jax.cli.main.main({arguments.split()})\n"
        f"print([name for name in {list(COMMANDS)} if 'rvm_jax.cli.' + name in sys.modules])\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *_, commands, heavy = result.stdout.splitlines()
    assert heavy == "[]"
    command = arguments.removesuffix("--help").strip()
    assert commands == str([command] if command else [])


def test_loading_a_network_needs_neither_torch_nor_tensorflow():
    program = (
        "import sys, rvm_jax; rvm_jax.load, rvm_jax.Matte, rvm_jax.MattingNetwork\n"
        "print([m for m in ('torch', 'tensorflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
