"""The `rvm` command: parses, calls, prints; nothing else."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from rvm_jax import cli_data, cli_evaluate, cli_export, cli_matte, cli_serve, cli_train
from rvm_jax.errors import InputError, Stopped

app = tyro.extras.SubcommandApp()
app.command(cli_data.app, name="data", help="Check, prepare, look at and measure datasets.")
app.command(cli_train.app, name="train", help="Train a network, or go on where training stopped.")
app.command(cli_matte.matte)
app.command(cli_serve.serve)
app.command(cli_evaluate.evaluate)
app.command(cli_export.export)
EXTRAS = {"gradio": "web"}
"""What to install for a module that is missing, where that is not [train]."""

CONFIG = (tyro.conf.FlagCreatePairsOff,)


@app.command
def convert(
    source: Annotated[Positional[Path], arg(metavar="IN")],
    target: Annotated[Positional[Path], arg(metavar="OUT")],
    *,
    force: bool = False,
) -> None:
    """Convert weights between PyTorch and JAX.

    IN is a .pth or .safetensors file in the released format, a JAX folder, the folder of a training run or one of its
    checkpoints, or torchvision's ImageNet mobilenet_v3_large or resnet50, which becomes an encoder to start training
    from. OUT is written as its ending says: .pth, .safetensors, or a JAX folder if it has none.

    Example: rvm convert rvm_mobilenetv3.pth weights/mobilenetv3

    Args:
        source: The weights to read.
        target: The file or folder to write.
        force: Overwrite OUT if it exists.
    """
    from rvm_jax import weights

    loaded = weights.read(source)
    weights.write(loaded, target, overwrite=force)
    print(f"{target}: {loaded.describe()}")


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
