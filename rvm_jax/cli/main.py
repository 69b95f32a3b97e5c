"""The `rvm` command: picks the command that the first word names, imports that one alone, and gives exit statuses."""

import contextlib
import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rvm_jax.errors import InputError, Stopped
from rvm_jax.host.memory import collect_seldom

COMMANDS = {
    "matte": "Cut people out of videos, pictures, streams and cameras.",
    "weights": "List released networks, and download them.",
    "serve": "The same on a page in the browser, and as an HTTP API.",
    "export": "Write a network for ONNX, TorchScript or StableHLO, compared with JAX.",
    "convert": "Convert weights between PyTorch and JAX.",
    "evaluate": "Score networks, or any method's predictions, against a test set.",
    "table": "Draw the table of baselines from rows that `rvm evaluate --row` wrote.",
    "data": "Check, prepare, look at and measure datasets.",
    "train": "Train a network, or go on where training stopped.",
}
"""Each is in the module of this name in `rvm_jax.cli`, or of `HOMES`: `app`, or the function of the same name."""

HOMES = {"table": "evaluate"}

EXTRAS = {
    "train": (
        "absl",
        "array_record",
        "cv2",
        "importlib_resources",
        "optax",
        "tensorflow",
        "tensorflow_datasets",
        "wandb",
    ),
    "torch": ("onnx", "onnxruntime", "torch"),
    "web": ("python_multipart", "starlette", "uvicorn", "websockets"),
}
"""The modules that a plain installation lacks, by the extra that brings them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 2 for what the user has to mend, 130 or 143 if told to stop."""
    collect_seldom()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    try:
        return _run(words)
    except InputError as error:
        print(f"rvm: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"rvm: {stopped}", file=sys.stderr)
        return stopped.status
    except ModuleNotFoundError as error:
        extra = next((extra for extra, modules in EXTRAS.items() if error.name in modules), None)
        if extra is None:
            raise
        print(f"rvm: {error.name} is not installed: this needs pip install 'rvm-jax[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rvm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Who reads what is printed has read enough, as `head` does. Nothing is left to be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(words: list[str]) -> int:
    if not words:
        print(_overview(), file=sys.stderr)
        return 2
    first, *rest = words
    if first in ("-h", "--help"):
        print(_overview())
    elif first == "--version":
        print(f"rvm-jax {version('rvm-jax')}")
    elif first.startswith("--tyro-"):  # --tyro-print-completion SHELL and the like, for all commands
        import tyro

        app = tyro.extras.SubcommandApp()
        for name, line in COMMANDS.items():
            app.command(_command(name), name=name, help=line)
        _parse(app, "rvm", words)
    elif first in COMMANDS:
        _parse(_command(first), f"rvm {first}", rest)
    elif first.startswith("-"):
        raise InputError(
            f"{first} comes before any command: expected rvm COMMAND ..., and `rvm --help` lists the commands"
        )
    else:
        near = difflib.get_close_matches(first, COMMANDS, n=1, cutoff=0.4)
        mend = f"did you mean `rvm {near[0]}`? " if near else ""
        raise InputError(f"there is no command {first}: {mend}`rvm --help` lists all")
    return 0


def _overview() -> str:
    commands = "\n".join(f"  {name:<10}{line}" for name, line in COMMANDS.items())
    return (
        "usage: rvm COMMAND ...\n\n"
        "Robust video matting in JAX: cut people out of video, and train the network that does it.\n\n"
        f"{commands}\n\n"
        "`rvm COMMAND --help` tells all about one, with examples; `rvm --version` tells which version this is."
    )


def _command(name: str) -> Any:
    """What tyro shall parse for a command: an app with commands of its own, or a function."""
    from rvm_jax.cli import parsing

    module = importlib.import_module(f"rvm_jax.cli.{HOMES.get(name, name)}")
    for one in vars(module).values():
        if inspect.isfunction(one) and one.__doc__:
            one.__doc__ = parsing.in_long_lines(one.__doc__)
    return getattr(module, "app", None) or getattr(module, name)


def _parse(command: Any, prog: str, words: list[str]) -> None:
    import tyro

    from rvm_jax.cli import parsing

    asked = {"-h", "--help"}.intersection(words)
    options: Any = {"config": (tyro.conf.FlagCreatePairsOff,), "registry": parsing.path_registry()}
    try:
        with parsing.wrapped_output() if asked else contextlib.nullcontext():
            if isinstance(command, tyro.extras.SubcommandApp):
                description = COMMANDS.get(prog.removeprefix("rvm "))
                command.cli(prog=prog, description=description, args=words, **options)
            else:
                tyro.cli(command, prog=prog, args=words, **options)
    except parsing.UrlError as error:
        raise InputError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
