"""The matting network as an ONNX graph, for frames of any size or of one.

Inputs and outputs have the names of the released models: `src`, `r1i` .. `r4i` and, if the size is open,
`downsample_ratio`; `fgr`, `pha`, `r1o` .. `r4o`. Arrays are channels first. Every BatchNorm is folded into the
convolution before it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from rvm_jax.export import onnx_graph
from rvm_jax.export.frame_size import FrameSize
from rvm_jax.export.onnx_graph import Graph, crop, height_and_width, resize, tensor
from rvm_jax.model.network import state_sizes
from rvm_jax.model.resize import scaled_size
from rvm_jax.model.variants import FILTER_EPSILON, NORM_EPSILON, Bottleneck, InvertedResidual, MobileNetV3, ResNet
from rvm_jax.weights.files import Weights
from rvm_jax.weights.names import to_state_dict
from rvm_jax.weights.provenance import metadata

STATES = ("r1", "r2", "r3", "r4")
Arrays = Mapping[str, np.ndarray]


def build(weights: Weights, fixed: FrameSize | None = None, *, half: bool = False) -> onnx.ModelProto:
    """The graph of a whole network: for frames and ratios of any size, or for `fixed` ones and a batch of one.

    With `half`, weights, inputs, outputs and all arithmetic but the refiner's are float16.
    """
    table = weights.variant
    arrays = to_state_dict(weights.variables, weights.table)
    graph = Graph(half)
    exact = graph.in_float32()

    full = graph.to_float32("src")
    low = _downscale(exact, full, fixed)
    seen = graph.from_float32(low)
    if isinstance(table.encoder, MobileNetV3):
        f1, f2, f3, f4 = _mobilenetv3(graph, seen, table.encoder, arrays)
    else:
        f1, f2, f3, f4 = resnet(graph, seen, table.encoder, arrays)
    hidden, states = _decoder(graph, _lraspp(graph, f4, arrays), (f3, f2, f1), seen, arrays, fixed)
    target = graph.to_float32(_conv(graph, hidden, "project_mat.conv", arrays))
    if fixed is None:
        whole = exact.add("Equal", "downsample_ratio", exact.floats(1))
        branch = graph.branch()
        refined = _refiner(branch, full, low, target, hidden, arrays, None)
        target = onnx_graph.choose(graph, whole, target, branch, refined)
    elif fixed.ratio != 1:
        target = _refiner(graph, full, low, target, hidden, arrays, fixed)

    residual, alpha = exact.add_many(2, "Split", target, exact.integers(3, 1), axis=1)
    ends = [exact.constant(f"clip_to_{end}", np.array(end, np.float32)) for end in (0, 1)]
    for name, value in ("fgr", exact.add("Add", residual, full)), ("pha", alpha):
        graph.output(graph.from_float32(exact.add("Clip", value, *ends)), name)
    for name, value in zip(STATES, states, strict=True):
        graph.output(value, f"{name}o")
    inputs, outputs = _ends(table.state_features, fixed, half)
    properties = {"variant": table.name, "refiner": str(weights.refiner), **metadata(weights.provenance)}
    if fixed is not None:
        properties["downsample_ratio"] = repr(fixed.ratio)
    return onnx_graph.model(graph, table.name, inputs, outputs, properties)


def _ends(
    widths: Sequence[int], fixed: FrameSize | None, half: bool
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs, with their shapes."""
    batch: int | str = "batch"
    size: tuple[int | str, ...] = ("height", "width")
    given: list[tuple[int | str, ...]]
    states: list[tuple[int | str, ...]]
    if fixed is None:
        # A first frame may come with states of one zero each.
        given = [tuple(f"{name}i_{axis}" for axis in ("batch", "channels", "height", "width")) for name in STATES]
        states = [(batch, width, f"{name}_height", f"{name}_width") for name, width in zip(STATES, widths, strict=True)]
    else:
        batch, size = 1, fixed.size
        sizes = state_sizes(fixed.size, fixed.ratio)
        given = states = [(batch, width, *hw) for width, hw in zip(widths, sizes, strict=True)]
    inputs = [tensor("src", (batch, 3, *size), half=half)]
    inputs += [tensor(f"{name}i", shape, half=half) for name, shape in zip(STATES, given, strict=True)]
    if fixed is None:
        inputs.append(tensor("downsample_ratio", (1,)))
    outputs = [tensor("fgr", (batch, 3, *size), half=half), tensor("pha", (batch, 1, *size), half=half)]
    outputs += [tensor(f"{name}o", shape, half=half) for name, shape in zip(STATES, states, strict=True)]
    return inputs, outputs


def _downscale(graph: Graph, full: str, fixed: FrameSize | None) -> str:
    if fixed is None:
        ratio = "downsample_ratio"
        return resize(graph, full, scales=graph.add("Concat", graph.floats(1, 1), ratio, ratio, axis=0))
    if fixed.ratio == 1:
        return full
    factors = [scale_for(size, fixed.ratio) for size in fixed.size]
    return resize(graph, full, scales=graph.floats(1, 1, *factors))


def scale_for(size: int, ratio: float) -> float:
    """`ratio` as a float32 with which every runtime finds the same size: ⌊size · ratio⌋, in float32 or in float64.

    Given the sizes instead, a runtime would step by their quotient, and not by 1 / ratio.
    """
    wanted, _ = scaled_size((size, size), ratio)
    scale = np.float32(ratio)
    while float(scale) * size < wanted:
        scale = np.nextafter(scale, np.float32(2))
    while scale * np.float32(size) >= wanted + 1:
        scale = np.nextafter(scale, np.float32(0))
    return float(scale)


# Layers


def _conv(graph: Graph, x: str, name: str, arrays: Arrays) -> str:
    return onnx_graph.conv(graph, x, name, arrays[f"{name}.weight"], arrays.get(f"{name}.bias"))


def _conv_norm(
    graph: Graph,
    x: str,
    conv: str,
    norm: str,
    arrays: Arrays,
    *,
    epsilon: float = NORM_EPSILON,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> str:
    """A convolution without bias and the BatchNorm after it, as one convolution."""
    weight, bias, mean, var = (
        arrays[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = weight / np.sqrt(var + epsilon)
    kernel = arrays[f"{conv}.weight"] * factor[:, None, None, None]
    bias = bias - mean * factor
    return onnx_graph.conv(graph, x, conv, kernel, bias, stride=stride, dilation=dilation, groups=groups)


def _hard_sigmoid(graph: Graph, x: str) -> str:
    return graph.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _activation(graph: Graph, x: str, kind: str) -> str:
    return graph.add("Relu", x) if kind == "relu" else graph.add("Mul", x, _hard_sigmoid(graph, x))


def _mobilenetv3(graph: Graph, x: str, encoder: MobileNetV3, arrays: Arrays) -> list[str]:
    for operator, values in ("Sub", encoder.mean), ("Div", encoder.std):
        x = graph.add(operator, x, graph.weight(f"imagenet_{operator}", np.array(values).reshape(1, 3, 1, 1)))
    stem, last = "backbone.features.0", f"backbone.features.{len(encoder.blocks) + 1}"
    x = _conv_norm(graph, x, f"{stem}.0", f"{stem}.1", arrays, epsilon=encoder.epsilon, stride=2)
    features = [_activation(graph, x, "hard_swish")]
    for number, inputs, block in encoder.numbered_blocks():
        name = f"backbone.features.{number}.block"
        features.append(_inverted_residual(graph, features[-1], name, inputs, block, arrays, encoder.epsilon))
    x = _conv_norm(graph, features[-1], f"{last}.0", f"{last}.1", arrays, epsilon=encoder.epsilon)
    features.append(_activation(graph, x, "hard_swish"))
    return [features[tap] for tap in encoder.taps]


def _inverted_residual(
    graph: Graph, x: str, name: str, inputs: int, block: InvertedResidual, arrays: Arrays, epsilon: float
) -> str:
    form = {"stride": block.stride, "dilation": block.dilation, "groups": block.expanded}
    y = x
    for index, part in enumerate(block.parts(inputs)):
        here = f"{name}.{index}"
        if part == "squeeze_excite":
            weight = graph.add("Relu", _conv(graph, graph.add("GlobalAveragePool", y), f"{here}.fc1", arrays))
            y = graph.add("Mul", y, _hard_sigmoid(graph, _conv(graph, weight, f"{here}.fc2", arrays)))
            continue
        options = form if part == "depthwise" else {}
        y = _conv_norm(graph, y, f"{here}.0", f"{here}.1", arrays, epsilon=epsilon, **options)
        y = y if part == "project" else _activation(graph, y, block.activation)
    return graph.add("Add", x, y) if block.adds_its_input(inputs) else y


def resnet(graph: Graph, x: str, encoder: ResNet, arrays: Arrays) -> list[str]:
    """Its features at 1/2, 1/4, 1/8 and 1/16."""
    f1 = graph.add("Relu", _conv_norm(graph, x, "backbone.conv1", "backbone.bn1", arrays, stride=2))
    x = graph.add("MaxPool", f1, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    layers = {}
    for block in encoder.blocks():
        x = layers[block.layer] = _bottleneck(graph, x, block, arrays)
    return [f1, layers[1], layers[2], layers[4]]


def _bottleneck(graph: Graph, x: str, block: Bottleneck, arrays: Arrays) -> str:
    name = f"backbone.layer{block.layer}.{block.number}"
    y = graph.add("Relu", _conv_norm(graph, x, f"{name}.conv1", f"{name}.bn1", arrays))
    y = _conv_norm(graph, y, f"{name}.conv2", f"{name}.bn2", arrays, stride=block.stride, dilation=block.dilation)
    y = _conv_norm(graph, graph.add("Relu", y), f"{name}.conv3", f"{name}.bn3", arrays)
    if block.skip_conv:
        x = _conv_norm(graph, x, f"{name}.downsample.0", f"{name}.downsample.1", arrays, stride=block.stride)
    return graph.add("Relu", graph.add("Add", y, x))


def _lraspp(graph: Graph, x: str, arrays: Arrays) -> str:
    value = graph.add("Relu", _conv_norm(graph, x, "aspp.aspp1.0", "aspp.aspp1.1", arrays))
    gate = graph.add("Sigmoid", _conv(graph, graph.add("GlobalAveragePool", x), "aspp.aspp2.1", arrays))
    return graph.add("Mul", value, gate)


def _decoder(
    graph: Graph, x: str, taps: tuple[str, str, str], frames: str, arrays: Arrays, fixed: FrameSize | None
) -> tuple[str, list[str]]:
    """From 1/16 to full size: the hidden features, and the states r1 .. r4."""
    sizes = (
        [None] * 4 if fixed is None else [scaled_size(fixed.size, fixed.ratio), *state_sizes(fixed.size, fixed.ratio)]
    )
    pyramid = [frames]
    for _ in range(3):
        # At an odd edge the mean is that of the pixels that exist.
        pyramid.append(graph.add("AveragePool", pyramid[-1], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
    x, r4 = _gru(graph, x, "r4i", "decoder.decode4.gru", arrays, fixed)
    states = [r4]
    for scale, tap in zip((3, 2, 1), taps, strict=True):
        name = f"decoder.decode{scale}"
        x = _join(graph, x, [tap, pyramid[scale]], sizes[scale])
        x = graph.add("Relu", _conv_norm(graph, x, f"{name}.conv.0", f"{name}.conv.1", arrays))
        x, state = _gru(graph, x, f"r{scale}i", f"{name}.gru", arrays, fixed)
        states.insert(0, state)
    x = _join(graph, x, [frames], sizes[0])
    for conv, norm in (0, 1), (3, 4):
        name = "decoder.decode0.conv"
        x = graph.add("Relu", _conv_norm(graph, x, f"{name}.{conv}", f"{name}.{norm}", arrays))
    return x, states


def _join(graph: Graph, x: str, others: list[str], size: tuple[int, int] | None) -> str:
    """Up-sample x twice, crop it to the size of the others, and concatenate all."""
    x = resize(graph, x, scales=graph.floats(1, 1, 2, 2))
    if size is None:
        x = crop(graph, x, height_and_width(graph, others[0]))
    elif any(side % 2 for side in size):
        x = crop(graph, x, graph.integers(*size))
    return graph.add("Concat", x, *others, axis=1)


def _gru(graph: Graph, x: str, state: str, name: str, arrays: Arrays, fixed: FrameSize | None) -> tuple[str, str]:
    """A ConvGRU on the second half of the channels; the first half passes by. Returns all channels, and the state."""
    passing, x = graph.add_many(2, "Split", x, axis=1)
    if fixed is None:
        state = graph.add("Expand", state, graph.add("Shape", x))  # a single zero, on the first frame
    gates = graph.add("Sigmoid", _conv(graph, graph.add("Concat", x, state, axis=1), f"{name}.ih.0", arrays))
    reset, update = graph.add_many(2, "Split", gates, axis=1)
    remembered = graph.add("Concat", x, graph.add("Mul", reset, state), axis=1)
    candidate = graph.add("Tanh", _conv(graph, remembered, f"{name}.hh.0", arrays))
    state = graph.add("Add", state, graph.add("Mul", update, graph.add("Sub", candidate, state)))
    return graph.add("Concat", passing, state, axis=1), state


def _refiner(
    graph: Graph, full: str, low: str, target: str, hidden: str, arrays: Arrays, fixed: FrameSize | None
) -> str:
    """The guided filter: the target at full size. All of it is float32: it lives on small differences of means."""
    hidden = graph.to_float32(hidden)
    graph = graph.in_float32()
    guide = _with_mean(graph, low)
    squares = [graph.add("Mul", guide, other) for other in (target, guide)]
    deep = "refiner.box_filter.weight" in arrays
    window = arrays["refiner.box_filter.weight"] if deep else np.full((4, 1, 3, 3), 1 / 9)
    window = np.tile(window, (4, 1, 1, 1))
    means = onnx_graph.conv(
        graph, graph.add("Concat", guide, target, *squares, axis=1), "refiner.box_filter", window, groups=16
    )
    guide_mean, target_mean, product, square = graph.add_many(4, "Split", means, axis=1)
    covariance = graph.add("Sub", product, graph.add("Mul", guide_mean, target_mean))
    variance = graph.add("Sub", square, graph.add("Mul", guide_mean, guide_mean))
    if deep:
        x = graph.add("Concat", covariance, variance, hidden, axis=1)
        for conv, norm in (0, 1), (3, 4):
            name = "refiner.conv"
            x = graph.add("Relu", _conv_norm(graph, x, f"{name}.{conv}", f"{name}.{norm}", arrays))
        a = _conv(graph, x, "refiner.conv.6", arrays)
    else:
        a = graph.add("Div", covariance, graph.add("Add", variance, graph.floats(FILTER_EPSILON)))
    b = graph.add("Sub", target_mean, graph.add("Mul", a, guide_mean))
    if fixed is None:
        sizes = graph.add("Concat", graph.add("Shape", a, end=2), height_and_width(graph, full), axis=0)
    else:
        sizes = graph.integers(1, 4, *fixed.size)
    a, b = resize(graph, a, sizes=sizes), resize(graph, b, sizes=sizes)
    return graph.add("Add", graph.add("Mul", a, _with_mean(graph, full)), b)


def _with_mean(graph: Graph, frames: str) -> str:
    """The frames and the mean of their channels."""
    return graph.add("Concat", frames, graph.add("ReduceMean", frames, axes=[1], keepdims=1), axis=1)
