"""`rvm export`: parses, calls, prints; nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from rvm_jax.cli.parsing import width_and_height
from rvm_jax.errors import InputError


def export(
    weights: Annotated[Positional[str], arg(metavar="WEIGHTS")],
    out: Annotated[Positional[Path | None], arg(metavar="[OUT]")] = None,
    *,
    to: Literal["onnx", "torchscript", "stablehlo", "pth", "safetensors", "hub"],
    size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None,
    portrait: bool = False,
    downsample_ratio: float | None = None,
    precision: Literal["float32", "float16"] = "float32",
    clip: Annotated[Path | None, arg(metavar="VIDEO|FOLDER")] = None,
    row: Annotated[Path | None, arg(metavar="ROW.json")] = None,
    licence: Annotated[str | None, arg(metavar="LICENCE")] = None,
    force: bool = False,
) -> None:
    """Write a network for another runtime, and check that it gives there what it gives here.

    The file is run at once, over the frames of a clip and in several sizes, and compared with JAX. The differences are
    printed and written beside it (OUT.parity.json). A file that does not agree is not kept.

    `onnx` takes frames of any size, or with --size of one, as TensorRT wants it. `torchscript` takes frames of any size
    and needs none of this code. `stablehlo` is for JAX without this code, for one --size. `pth` and `safetensors` hold
    weights alone, in the released format. `hub` is a folder for the Hugging Face Hub: weights, ONNX, a model card with
    data, licences and scores; `hf upload OWNER/NAME DIR` sends it.

    MODNet, BackgroundMattingV2 and U²-Net are written as `onnx`, `torchscript` (for one --size) and `stablehlo`, with
    what the network itself takes and gives; BackgroundMattingV2's coarse network runs at --downsample-ratio.

    Example: rvm export mobilenetv3 --to onnx

    Example: rvm export mobilenetv3 --to onnx --size 1920x1080 --downsample-ratio 0.25 --precision float16

    Example: rvm export runs/mobilenetv3 mynet --to hub --row row.json --licence apache-2.0

    Args:
        weights: A name of `rvm weights`, a .pth, .safetensors or released .onnx file, a JAX folder, or the folder of a
            training run; gs:// and s3:// too.
        out: The file to write, or the folder (hub). By default it has the name of WEIGHTS, in the current folder.
        to: What to write.
        size: The one size of frames that the file is for (onnx, stablehlo; torchscript but RVM's): the width comes
            first, as in 1920x1080.
        portrait: The frames of --size are taller than wide. Without it such a size is refused, since --size was height
            x width in earlier versions.
        downsample_ratio: The ratio that goes with --size; by default its longest side becomes about 512 pixels.
        precision: What weights, frames, states and most arithmetic are (float16: onnx, torchscript).
        clip: A video or a folder of pictures to compare on. By default a person is drawn.
        row: What the card tells of scores (hub): what `rvm evaluate --row` wrote of these weights.
        licence: Under which you publish them (hub), as the Hub abbreviates it: apache-2.0, gpl-3.0, ...
        force: Overwrite OUT if it exists.
    """
    if to == "hub":
        given = {"--size": size, "--downsample-ratio": downsample_ratio, "--portrait": portrait or None}
        _refuse(given | {"--precision": None if precision == "float32" else precision}, "cannot be had with --to hub")
        _export_to_hub(weights, out, row, licence, clip, force)
        return
    _refuse({"--row": row, "--licence": licence}, "can only be had with --to hub")
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


def _export_to_hub(
    weights: str, out: Path | None, row: Path | None, licence: str | None, clip: Path | None, force: bool
) -> None:
    from rvm_jax.evaluation import rows
    from rvm_jax.export import export as exporting
    from rvm_jax.export import hub
    from rvm_jax.weights.in_buckets import weights_name

    folder = out or Path(weights_name(weights))
    scored = None if row is None else rows.read(row)
    report = hub.export_to_hub(weights, folder, row=scored, licence=licence, clip=clip, overwrite=force)
    print(f"{folder}: {report['network']}")
    print(exporting.table(report))


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Refuse options that belong to another kind of file."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise InputError(f"{' and '.join(names)} {why}: leave {'it' if len(names) == 1 else 'them'} out")


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
