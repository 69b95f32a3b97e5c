"""`rvm convert`: parses, calls, prints; nothing else."""

from typing import Annotated

from tyro.conf import Positional, arg


def convert(
    source: Annotated[Positional[str], arg(metavar="IN")],
    target: Annotated[Positional[str], arg(metavar="OUT")],
    *,
    force: bool = False,
) -> None:
    """Convert weights between PyTorch and JAX.

    IN is a .pth or .safetensors file in the released format, a released .onnx file, a JAX folder, the folder of a
    training run or one of its checkpoints, or torchvision's ImageNet mobilenet_v3_large or resnet50, which becomes an
    encoder to start training from. OUT is written as its ending says: .pth, .safetensors, or a JAX folder if it has
    none. Both may be in a bucket: gs:// or s3://.

    Example: rvm convert rvm_mobilenetv3.pth weights/mobilenetv3

    Args:
        source: The weights to read.
        target: The file or folder to write.
        force: Overwrite OUT if it exists.
    """
    from rvm_jax.weights.files import read_weights, write_weights  # JAX is not imported for --help

    loaded = read_weights(source)
    write_weights(loaded, target, overwrite=force)
    print(f"{target}: {loaded.describe()}")
