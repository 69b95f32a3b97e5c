"""MODNet, BackgroundMattingV2 and U²-Net for other runtimes, each run by its runtime and compared with JAX."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rvm_jax.baselines.background_matting import MULTIPLE as REFINED_MULTIPLE
from rvm_jax.baselines.background_matting import MattingRefine
from rvm_jax.baselines.files import network_of
from rvm_jax.baselines.images import MEAN, STD
from rvm_jax.baselines.modnet import MULTIPLE, MODNet
from rvm_jax.baselines.names import Baseline, describe
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.errors import InputError
from rvm_jax.export import parity, report, sample_clip
from rvm_jax.host.files import replacing
from rvm_jax.weights.files import Contents
from rvm_jax.weights.names import Variables
from rvm_jax.weights.provenance import Provenance, add_to_zip, metadata

FRAMES = 2
FORMATS = {"onnx": ("onnx", "onnxruntime"), "torchscript": ("onnx", "torch"), "stablehlo": ()}
"""What a network can be exported to, and which packages that needs."""

Size = tuple[int, int] | None  # (height, width), or any

Run = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Inputs `[1, 3, H, W]` → outputs, channels first."""


def export_baseline(
    contents: Contents,
    path: Path,
    to: str,
    *,
    size: Size = None,
    scale: float | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write what was read as `to`, one of `FORMATS`, if it agrees with JAX; gives the report that is written beside it.

    The file takes what the network takes: images that are normalised, of any size if it is ONNX and none is given, else
    of one, in a batch of one. `scale` is that of a `MattingRefine`. With `half`, what is computed is float16.
    """
    network, variables = network_of(contents)
    if scale is not None:
        if not isinstance(network, MattingRefine):
            raise InputError("--downsample-ratio is for BackgroundMattingV2 with its refiner, and RVM: leave it out")
        network = network.clone(scale=scale)
    if half and isinstance(network, MattingRefine):
        raise InputError(
            "--precision float16 is not for BackgroundMattingV2 with its refiner: its errors, rounded, choose other "
            "patches to refine, and nothing would tell whether the file is right; export float32"
        )
    if size is None and to != "onnx":
        size = _default_size(network)
    if size is not None:
        _check_size(network, size)
    precision, described = "float16" if half else "float32", describe(network, variables)
    made = report.begin(path, to, precision, described, "drawn", FORMATS[to], contents.provenance)
    sizes = [size] if size else _sizes(network)
    with (
        replacing(path, overwrite=overwrite) as new,
        replacing(report.report_path(path), overwrite=overwrite) as report_draft,
    ):
        draft = new.with_name(path.name)
        with jax.default_device(report.cpu()):
            run = WRITERS[to](network, variables, draft, size, contents.provenance, half)
            made["cases"] = [_case(run, network, variables, one) for one in sizes]
        report.check(made)
        draft.replace(new)
        report_draft.write_text(json.dumps(made, indent=2) + "\n")
    return made


def _default_size(network: Baseline) -> tuple[int, int]:
    match network:
        case MODNet():
            return 512, 512
        case U2Net():
            return 320, 320
        case _:
            raise InputError("which size of frames is it for? Say so, as in --size 1920x1080; only onnx takes any")


def _check_size(network: Baseline, size: tuple[int, int]) -> None:
    multiple = {MODNet: MULTIPLE, MattingRefine: REFINED_MULTIPLE}.get(type(network), 1)
    if any(side % multiple or not side for side in size):
        raise InputError(f"--size {size[1]}x{size[0]}: this network takes sides that are multiples of {multiple}")


def _sizes(network: Baseline) -> list[tuple[int, int]]:
    """What to compare at if a file takes everything: two sizes, not square and odd where the network takes that."""
    match network:
        case MODNet():
            return [(256, 256), (96, 160)]
        case MattingRefine():
            return [(180, 320), (92, 148)]
        case _:
            return [(160, 160), (75, 131)]


def inputs(network: Baseline, size: tuple[int, int], count: int = FRAMES) -> list[list[np.ndarray]]:
    """For each of a few frames of a drawn clip what the network takes, `[1, H, W, 3]` each."""
    frames = sample_clip.draw(size, count).astype(np.float32) / 255
    match network:
        case MODNet():
            return [[2 * frame[None] - 1] for frame in frames]
        case U2Net():
            mean, std = (np.array(values, np.float32) for values in (MEAN, STD))
            return [[(frame[None] / frame.max() - mean) / std] for frame in frames]
        case _:
            background = frames.mean(0)
            return [[frame[None], background[None]] for frame in frames]


def _case(run: Run, network: Baseline, variables: Variables, size: tuple[int, int]) -> dict[str, Any]:
    """A report's entry for one size."""
    from rvm_jax.export.baselines.graphs import outputs_of

    apply = jax.jit(network.apply)
    apart: dict[str, list[tuple[float, float, float]]] = {name: [] for name in outputs_of(network)}
    for given in inputs(network, size):
        with jax.default_matmul_precision("highest"):
            expected: Any = apply(variables, *given)
        for name, one, other in zip(apart, run([_channels_first(x) for x in given]), expected, strict=False):
            apart[name].append(parity.difference(one, _channels_first(np.asarray(other))))
    differences = {name: parity.summarized(frames) for name, frames in apart.items()}
    return {"height": size[0], "width": size[1], "frames": FRAMES, "differences": differences}


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _write_onnx(
    network: Baseline, variables: Variables, path: Path, size: Size, told: Provenance | None, half: bool
) -> Run:
    import onnx
    import onnxruntime

    from rvm_jax.export.baselines.graphs import build, inputs_of

    onnx.save(build(network, variables, size, metadata(told), half=half), path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: list[np.ndarray]) -> list[np.ndarray]:
        given = zip(inputs_of(network), _of_type(images, half), strict=True)
        return [x.astype(np.float32) for x in session.run(None, dict(given))]

    return run


def _write_torchscript(
    network: Baseline, variables: Variables, path: Path, size: Size, told: Provenance | None, half: bool
) -> Run:
    import torch

    from rvm_jax.export.baselines.graphs import build, inputs_of
    from rvm_jax.export.baselines.torch_module import OnnxNetwork

    module = OnnxNetwork(build(network, variables, size, half=half)).eval()
    dtype = torch.float16 if half else torch.float32
    example = tuple(torch.zeros(1, 3, *(size or ()), dtype=dtype) for _ in inputs_of(network))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes are fixed, as they are meant to be, and that TorchScript will go
        torch.jit.trace(module, example, check_trace=False).save(path)
        add_to_zip(told, path)
        loaded = torch.jit.load(path, map_location="cpu")

    def run(images: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [x.float().numpy() for x in loaded(*map(torch.from_numpy, _of_type(images, half)))]

    return run


def _write_stablehlo(
    network: Baseline, variables: Variables, path: Path, size: Size, told: Provenance | None, half: bool
) -> Run:
    from jax import export

    from rvm_jax.export.baselines.graphs import inputs_of, outputs_of

    def matte(*images: Any) -> Any:
        output: Any = network.apply(variables, *images)
        return tuple(output)[: len(outputs_of(network))]

    images = [jax.ShapeDtypeStruct((1, *(size or ()), 3), np.float32) for _ in inputs_of(network)]
    exported = export.export(jax.jit(matte), platforms=("cpu", "cuda", "tpu"))(*images)
    path.write_bytes(exported.serialize())
    loaded = export.deserialize(bytearray(path.read_bytes()))
    return lambda images: [
        _channels_first(np.asarray(x)) for x in loaded.call(*(x.transpose(0, 2, 3, 1) for x in images))
    ]


def _of_type(images: list[np.ndarray], half: bool) -> list[np.ndarray]:
    return [x.astype(np.float16) for x in images] if half else images


WRITERS = {"onnx": _write_onnx, "torchscript": _write_torchscript, "stablehlo": _write_stablehlo}
"""Each writes a network for a size, or for all, and gives what runs the file."""
