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
    encoder to start training from. Which network it is of is found out: RVM, MODNet, BackgroundMattingV2 or U²-Net,
    whose .ckpt and TorchScript files are taken as well. OUT is written as its ending says: .pth, .safetensors, .ckpt as
    MODNet's are, or a JAX folder if it has none. Both may be in a bucket: gs:// or s3://.

    Example: rvm convert rvm_mobilenetv3.pth weights/mobilenetv3

    Example: rvm convert modnet_photographic_portrait_matting.ckpt weights/modnet

    Args:
        source: The weights to read.
        target: The file or folder to write.
        force: Overwrite OUT if it exists.
    """
    from rvm_jax.baselines import files as baselines  # JAX is not imported for --help
    from rvm_jax.baselines.names import describe
    from rvm_jax.weights.files import contents_of, weights_of, write_weights
    from rvm_jax.weights.names import baseline_family

    with contents_of(source) as contents:
        if baseline_family(contents.arrays):
            network, variables = baselines.network_of(contents)
            baselines.save(network, variables, target, overwrite=force, provenance=contents.provenance)
            described = describe(network, variables)
        else:
            loaded = weights_of(contents)
            write_weights(loaded, target, overwrite=force)
            described = loaded.describe()
    print(f"{target}: {described}")
