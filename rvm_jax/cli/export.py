"""`rvm export`: parses, calls, prints; nothing else."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from rvm_jax.cli.parsing import width_and_height
from rvm_jax.errors import InputError


def export(
    weights: Annotated[Positional[str], arg(metavar="WEIGHTS")],
    out: Annotated[Positional[Path | None], arg(metavar="[OUT]")] = None,
    *,
    to: Literal["onnx", "torchscript", "stablehlo", "pth", "safetensors"],
    size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None,
    portrait: bool = False,
    downsample_ratio: float | None = None,
    precision: Literal["float32", "float16"] = "float32",
    clip: Annotated[Path | None, arg(metavar="VIDEO|FOLDER")] = None,
    force: bool = False,
) -> None:
    """Write a network for another runtime, and check that it gives there what it gives here.

    The file is run at once, over the frames of a clip and in several sizes, and compared with JAX. The differences are
    printed and written beside it (OUT.parity.json). A file that does not agree is not kept.

    `onnx` takes frames of any size, or with --size of one, as TensorRT wants it. `torchscript` takes frames of any size
    and needs none of this code. `stablehlo` is for JAX without this code, for one --size. `pth` and `safetensors` hold
    weights alone, in the released format.

    MODNet, BackgroundMattingV2 and U²-Net are written as `onnx`, `torchscript` (for one --size) and `stablehlo`, with
    what the network itself takes and gives; BackgroundMattingV2's coarse network runs at --downsample-ratio.

    Example: rvm export mobilenetv3 --to onnx

    Example: rvm export mobilenetv3 --to onnx --size 1920x1080 --downsample-ratio 0.25 --precision float16

    Args:
        weights: A name of `rvm weights`, a .pth, .safetensors or released .onnx file, a JAX folder, or the folder of a
            training run; gs:// and s3:// too.
        out: The file to write. By default it has the name of WEIGHTS, in the current folder.
        to: What to write.
        size: The one size of frames that the file is for (onnx, stablehlo; torchscript but RVM's): the width comes
            first, as in 1920x1080.
        portrait: The frames of --size are taller than wide. Without it such a size is refused, since --size was height
            x width in earlier versions.
        downsample_ratio: The ratio that goes with --size; by default its longest side becomes about 512 pixels.
        precision: What weights, frames, states and most arithmetic are (float16: onnx, torchscript).
        clip: A video or a folder of pictures to compare on. By default a person is drawn.
        force: Overwrite OUT if it exists.
    """
    from rvm_jax.export import export as exporting

    report = exporting.export(
        weights,
        out,
        to,
        size=_height_and_width(size, portrait),
        downsample_ratio=downsample_ratio,
        precision=precision,
        clip=clip,
        overwrite=force,
    )
    print(f"{report['file']}: {report['network']}")
    print(exporting.table(report))


def _height_and_width(size: str | None, portrait: bool) -> tuple[int, int] | None:
    """Of --size. What is taller than wide has to be said twice: it may have been written for earlier versions."""
    if size is None:
        if portrait:
            raise InputError("--portrait belongs to --size, as in --size 1080x1920 --portrait")
        return None
    width, height = width_and_height("--size", size, "WIDTHxHEIGHT of the frames, such as 1920x1080")
    if height > width and not portrait:
        raise InputError(
            f"--size {size} is {width} wide and {height} high: if that is meant, add --portrait; "
            f"for frames {height} wide and {width} high give --size {height}x{width} (the width comes first now)"
        )
    if portrait and height <= width:
        raise InputError(f"--portrait is for frames taller than wide, but --size {size} is not: leave it out")
    return height, width
