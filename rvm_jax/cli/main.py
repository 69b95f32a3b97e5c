"""The `rvm` command: parses, calls, prints; nothing else."""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import tyro

from rvm_jax.cli import convert, data, evaluate, export, matte, serve, train
from rvm_jax.errors import InputError, Stopped

app = tyro.extras.SubcommandApp()
app.command(convert.convert)
app.command(data.app, name="data", help="Check, prepare, look at and measure datasets.")
app.command(train.app, name="train", help="Train a network, or go on where training stopped.")
app.command(matte.matte)
app.command(serve.serve)
app.command(evaluate.evaluate)
app.command(export.export)
EXTRAS = {"gradio": "web"}
"""What to install for a module that is missing, where that is not [train]."""

CONFIG = (tyro.conf.FlagCreatePairsOff,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 2 for what the user has to mend, 130 or 143 if told to stop."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"rvm-jax {version('rvm-jax')}")
        return 0
    try:
        app.cli(
            prog="rvm",
            description="Robust video matting in JAX. `rvm --version` tells which.",
            args=arguments,
            config=CONFIG,
        )
    except InputError as error:
        print(f"rvm: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"rvm: {stopped}", file=sys.stderr)
        return stopped.status
    except ModuleNotFoundError as error:
        # Matting installs small; what only some commands need is imported when they ask for it.
        module = "" if error.name is None else error.name.split(".")[0]
        if module in ("", "rvm_jax", "data_pipelines", "train"):
            raise
        extra = EXTRAS.get(module, "train")
        print(f"rvm: {error.name} is not installed: this needs pip install 'rvm-jax[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rvm: interrupted", file=sys.stderr)
        return 130
    return 0
