"""ONNX graphs, written node by node.

No exporter stands between the network and its graph: what a runtime gets is what `onnx_network` says, in few
operators that every runtime has. Values of a graph are known by their names, which are strings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Old enough for every runtime of the last years. A file of a newer IR than that of its opset is refused by some.
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True)
class Graph:
    """Nodes and weights in the order in which they were added. What is computed is float16 if `half`, or float32."""

    half: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def in_float32(self) -> "Graph":
        """The same graph, with float32 for what is added to it."""
        return replace(self, half=False)

    def branch(self) -> "Graph":
        """A graph for one side of an `If`: it sees the values of this one, which keeps its weights."""
        return replace(self, nodes=[])

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns its name."""
        name = f"{operator}_{next(self.numbers)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def add_many(self, outputs: int, operator: str, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        name = f"{operator}_{next(self.numbers)}"
        names = [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return names

    def output(self, x: str, name: str) -> None:
        """Give a value the name of an output."""
        self.nodes.append(helper.make_node("Identity", [x], [name], name=name))

    def constant(self, name: str, value: np.ndarray) -> str:
        """An array that is known now. A name always means the same array."""
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        """A constant in the precision of what is computed."""
        return self.constant(name, value.astype(np.float16 if self.half else np.float32))

    def integers(self, *values: int) -> str:
        return self.constant("_".join(["integers", *map(str, values)]), np.array(values, np.int64))

    def floats(self, *values: float) -> str:
        """Sizes' factors, which are float32 in any graph."""
        return self.constant("_".join(["floats", *map(str, values)]), np.array(values, np.float32))

    def to_float32(self, x: str) -> str:
        """A value of this graph as float32."""
        return self.add("Cast", x, to=onnx.TensorProto.FLOAT) if self.half else x

    def from_float32(self, x: str) -> str:
        """A float32 value as one of this graph."""
        return self.add("Cast", x, to=onnx.TensorProto.FLOAT16) if self.half else x


def conv(
    graph: Graph,
    x: str,
    name: str,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: int | None = None,
) -> str:
    """A convolution with `[O, I / groups, k, k]` that keeps the size, or divides it by the stride, rounded up.

    That is its padding, unless another is given.
    """
    size = kernel.shape[-1]
    weights = [graph.weight(f"{name}.weight", kernel)]
    if bias is not None:
        weights.append(graph.weight(f"{name}.bias", bias))
    return graph.add(
        "Conv",
        x,
        *weights,
        kernel_shape=[size, size],
        strides=[stride, stride],
        pads=[dilation * (size - 1) // 2 if padding is None else padding] * 4,
        dilations=[dilation, dilation],
        group=groups,
    )


def resize(graph: Graph, x: str, *, scales: str = "", sizes: str = "") -> str:
    """Bilinear, half-pixel centres, no antialiasing: by the factors `scales`, or to `sizes`, four numbers each."""
    ends = (scales, sizes) if sizes else (scales,)
    return graph.add("Resize", x, "", *ends, mode="linear", coordinate_transformation_mode="half_pixel")


def crop(graph: Graph, x: str, size: str) -> str:
    """The upper left corner of `size`, height and width."""
    return graph.add("Slice", x, graph.integers(0, 0), size, graph.integers(2, 3))


def height_and_width(graph: Graph, x: str) -> str:
    return graph.add("Shape", x, start=2, end=4)


def choose(graph: Graph, condition: str, value: str, branch: Graph, other: str) -> str:
    """`value` if the condition holds, or else what a branch computes, for which it runs only then. Both are float32."""
    branches = []
    for side, result in (graph.branch(), value), (branch, other):
        output = side.add("Identity", result)  # what a side gives must be computed in it
        info = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
        branches.append(helper.make_graph(side.nodes, f"branch_{output}", [], [info]))
    return graph.add("If", condition, then_branch=branches[0], else_branch=branches[1])


def tensor(name: str, shape: tuple[int | str, ...], *, half: bool = False) -> onnx.ValueInfoProto:
    """An input or output of a model. A size that is only known when it runs has a name."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT, shape)


def model(
    graph: Graph,
    name: str,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    properties: dict[str, str],
) -> onnx.ModelProto:
    """What is saved to a file: a graph with its ends, checked."""
    proto = helper.make_model(
        helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.weights.values())),
        producer_name="rvm-jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(proto, properties)
    onnx.checker.check_model(proto, full_check=True)
    return proto
