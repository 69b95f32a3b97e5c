"""An ONNX graph of ours as a PyTorch module, for sizes that are known: traced, it is a TorchScript file."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor, nn

DTYPES = {
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
}


class OnnxNetwork(nn.Module):
    """Runs the nodes one after another. The weights are its state_dict, by their names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.nodes = [
            (node.op_type, list(node.input), list(node.output), _attributes(node)) for node in model.graph.node
        ]
        self.names = [tensor.name for tensor in model.graph.initializer]
        for tensor in model.graph.initializer:
            *path, name = tensor.name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in dict(owner.named_children()):
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.register_buffer(name, torch.from_numpy(np.array(numpy_helper.to_array(tensor))))

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Images `[1, 3, H, W]`, one for each input → the outputs, in their order."""
        values: dict[str, Any] = {"": None, **{name: self.get_buffer(name) for name in self.names}}
        values |= dict(zip(self.inputs, images, strict=True))
        for operator, inputs, outputs, attributes in self.nodes:
            results = OPERATORS[operator](*(values[name] for name in inputs), **attributes)
            values |= dict(zip(outputs, results if len(outputs) > 1 else [results], strict=True))
        return tuple(values[name] for name in self.outputs)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _conv(x: Tensor, kernel: Tensor, bias: Tensor | None = None, **form: Any) -> Tensor:
    return F.conv2d(x, kernel, bias, form["strides"], form["pads"][:2], form["dilations"], form["group"])


def _max_pool(
    x: Tensor, *, kernel_shape: list[int], strides: list[int], pads: tuple[int, ...] = (0, 0), ceil_mode: int = 0
) -> Tensor:
    return F.max_pool2d(x, kernel_shape, strides, pads[:2], ceil_mode=bool(ceil_mode))


def _resize(x: Tensor, _: None, scales: Tensor | None, sizes: Tensor | None = None, **form: Any) -> Tensor:
    scale = None if scales is None else scales[2:].tolist()
    if form["mode"] == b"nearest":
        return F.interpolate(x, scale_factor=scale, mode="nearest")
    size = None if sizes is None else sizes[2:].tolist()
    return F.interpolate(x, size, scale, mode="bilinear", align_corners=False)


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor([int(side) for side in x.shape[start:end]])


def _pad(x: Tensor, pads: Tensor) -> Tensor:
    _, _, above, left, _, _, below, right = pads.tolist()
    return F.pad(x, [left, right, above, below])


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="floor")


def _scatter(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    return x.index_copy(0, places[:, 0], values)


def _top_k(x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    return torch.topk(x, int(count))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Cast": lambda x, to: x.to(DTYPES[to]),
    "Clip": torch.clamp,
    "Concat": lambda *x, axis: torch.cat(x, axis),
    "Conv": _conv,
    "Div": _divide,
    "Expand": lambda x, shape: x.expand(shape.tolist()),
    "Floor": torch.floor,
    "Gather": lambda x, places, axis: x[places],
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Greater": torch.gt,
    "Identity": lambda x: x,
    "InstanceNormalization": lambda x, scale, bias, epsilon: F.instance_norm(x, weight=scale, bias=bias, eps=epsilon),
    "MaxPool": _max_pool,
    "Min": torch.minimum,
    "Mod": torch.remainder,
    "Mul": torch.mul,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pad": _pad,
    "Range": lambda start, limit, step: torch.arange(int(start), int(limit), int(step)),
    "Relu": torch.relu,
    "Reshape": lambda x, shape: x.reshape(shape.tolist()),
    "Resize": _resize,
    "ScatterND": _scatter,
    "Shape": _shape,
    "Sigmoid": torch.sigmoid,
    "Split": lambda x, sizes=None, axis=0: x.chunk(2, axis) if sizes is None else x.split(sizes.tolist(), axis),
    "Squeeze": torch.squeeze,
    "Sub": torch.sub,
    "TopK": _top_k,
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": lambda x, axes: x.unsqueeze(int(axes)),
    "Where": torch.where,
}
