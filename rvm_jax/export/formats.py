"""What a network can be exported to: for each kind of file how it is written, and how its own runtime runs it.

`setting` is the one size and ratio that a file is for, or None if it takes all. The functions import what they need
when they are called, so that nobody waits for PyTorch or ONNX who does not export to them.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rvm_jax.export.frame_size import FrameSize
from rvm_jax.export.parity import Runner
from rvm_jax.model.network import state_sizes
from rvm_jax.weights import provenance
from rvm_jax.weights.files import Weights, read_network, write_weights
from rvm_jax.weights.names import to_state_dict

Write = Callable[[Weights, Path, FrameSize | None, bool], None]
Open = Callable[[Path], Runner]


@dataclass(frozen=True)
class ExportFormat:
    """One kind of file.

    Attributes:
      endings: what its names end in; the first is the one that is given by default.
      modules: what writing and running it needs beyond what is always installed.
      size: whether it is for one size, for any, or for either as asked.
      half: whether it can be float16.
      write: writes weights to a file, for a setting or for all, in float16 or not.
      open: a function that runs such a file frame by frame.
    """

    endings: tuple[str, ...]
    modules: tuple[str, ...]
    size: Literal["one", "any", "either"]
    half: bool
    write: Write
    open: Open


def write_onnx(weights: Weights, path: Path, setting: FrameSize | None, half: bool) -> None:
    import onnx

    from rvm_jax.export import onnx_network

    onnx.save(onnx_network.build(weights, setting, half=half), path)


def open_onnx(path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    dtype = np.float16 if inputs["src"].type == "tensor(float16)" else np.float32
    # Where any size is taken, the first states are one zero each.
    empty = [
        np.zeros([side if isinstance(side, int) else 1 for side in inputs[f"r{i}i"].shape], dtype) for i in (1, 2, 3, 4)
    ]

    def run(src: np.ndarray, state: list[np.ndarray] | None, ratio: float) -> list[np.ndarray]:
        feed = {"src": src.astype(dtype)}
        feed |= {f"r{i}i": r for i, r in enumerate(empty if state is None else state, 1)}
        if "downsample_ratio" in inputs:
            feed["downsample_ratio"] = np.array([ratio], np.float32)
        return session.run(None, feed)

    return run


def write_torchscript(weights: Weights, path: Path, setting: FrameSize | None, half: bool) -> None:
    import torch

    # States that remember how they came to be would keep every frame of a video in memory.
    network = _torch_network(weights).requires_grad_(False)
    if half:
        network.half()
    with _quiet():
        told = weights.provenance and {provenance.FILE: weights.provenance.to_json()}
        torch.jit.script(network).save(path, _extra_files=told or {})


def open_torchscript(path: Path) -> Runner:
    import torch

    with _quiet():
        return _torch_run(torch.jit.load(path, map_location="cpu"))


def write_stablehlo(weights: Weights, path: Path, setting: FrameSize | None, half: bool) -> None:
    import jax
    from jax import export

    assert setting is not None
    network = weights.network()

    def matte(src: Any, r1: Any, r2: Any, r3: Any, r4: Any) -> tuple[Any, ...]:
        matting: Any = network.apply(weights.variables, src, (r1, r2, r3, r4), setting.ratio)
        return matting.foreground, matting.alpha, *matting.state

    widths = weights.variant.state_features
    shapes = [(1, *setting.size, 3)]
    shapes += [(1, *hw, width) for hw, width in zip(state_sizes(*setting), widths, strict=True)]
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    exported = export.export(jax.jit(matte), platforms=("cpu", "cuda", "tpu"))(*arguments)
    path.write_bytes(exported.serialize())


def open_stablehlo(path: Path) -> Runner:
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))

    def run(src: np.ndarray, state: list[np.ndarray] | None, ratio: float) -> list[np.ndarray]:
        if state is None:
            given = [np.zeros(aval.shape, aval.dtype) for aval in exported.in_avals[1:]]
        else:
            given = [r.transpose(0, 2, 3, 1) for r in state]  # [1, h, w, C]
        outputs = exported.call(src.transpose(0, 2, 3, 1), *given)
        return [np.asarray(output).transpose(0, 3, 1, 2) for output in outputs]

    return run


def write_state_dict(weights: Weights, path: Path, setting: FrameSize | None, half: bool) -> None:
    write_weights(weights, path)


def open_state_dict(path: Path) -> Runner:
    return _torch_run(_torch_network(read_network(path)))


def _torch_network(weights: Weights) -> Any:
    import torch

    from rvm_jax.export.torch_network import MattingNetwork

    network = MattingNetwork(weights.variant, weights.network().refiner).eval()
    arrays = to_state_dict(weights.variables, weights.table)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network


def _torch_run(network: Any) -> Runner:
    """Run a network in PyTorch, in the precision of its weights."""
    import torch

    dtype = next(network.parameters()).dtype

    def run(src: np.ndarray, state: list[np.ndarray] | None, ratio: float) -> list[np.ndarray]:
        given = [None] * 4 if state is None else [torch.from_numpy(r) for r in state]
        with torch.no_grad(), _quiet():
            return [x.numpy() for x in network(torch.from_numpy(src).to(dtype), *given, ratio)]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch says with every call that TorchScript will go some day: nothing that one who exports to it can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


FORMATS = {
    "onnx": ExportFormat((".onnx",), ("onnx", "onnxruntime"), "either", True, write_onnx, open_onnx),
    "torchscript": ExportFormat((".torchscript", ".pt"), ("torch",), "any", True, write_torchscript, open_torchscript),
    "stablehlo": ExportFormat((".stablehlo",), (), "one", False, write_stablehlo, open_stablehlo),
    "pth": ExportFormat((".pth", ".pt"), ("torch",), "any", False, write_state_dict, open_state_dict),
    "safetensors": ExportFormat((".safetensors",), ("torch",), "any", False, write_state_dict, open_state_dict),
}
