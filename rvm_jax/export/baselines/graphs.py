"""MODNet, BackgroundMattingV2 and U²-Net as ONNX graphs, for images of any size or of one.

They take what the networks take, `input`, or `src` and `bgr`, channels first and normalised as the networks want it,
and give what their released exports give, by those names. Every BatchNorm is folded into the convolution before it,
whose weights keep their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from rvm_jax.baselines.background_matting import BACKBONES, MattingBase, MattingRefine
from rvm_jax.baselines.mobilenetv2 import STRIDED, MobileNetV2
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.names import Baseline, entries, mobilenetv2_names, name_of
from rvm_jax.baselines.u2net import VARIANTS, Block, U2Net
from rvm_jax.export import onnx_graph
from rvm_jax.export.onnx_graph import Graph, height_and_width, resize, tensor
from rvm_jax.export.onnx_network import resnet
from rvm_jax.model.resize import scaled_size
from rvm_jax.model.variants import NORM_EPSILON
from rvm_jax.weights.names import Variables, to_state_dict

COARSE_OUTPUTS = {"pha": 1, "fgr": 3, "err": 1, "hid": 32}
REFINED_OUTPUTS = {"pha": 1, "fgr": 3, "pha_sm": 1, "fgr_sm": 3, "err_sm": 1, "ref_sm": 1}


def inputs_of(network: Baseline) -> tuple[str, ...]:
    """What an exported network is given, by name."""
    return ("src", "bgr") if isinstance(network, MattingBase | MattingRefine) else ("input",)


def outputs_of(network: Baseline) -> dict[str, int]:
    """What an exported network gives, and how many channels that has."""
    match network:
        case MattingBase():
            return COARSE_OUTPUTS
        case MattingRefine():
            return REFINED_OUTPUTS
        case _:
            return {"output": 1}


def build(
    network: Baseline,
    variables: Variables,
    size: tuple[int, int] | None,
    told: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> onnx.ModelProto:
    """The graph of a network: for any batch and size, or for one image of `size`; with what its metadata shall tell.

    With `half`, which `MattingRefine` is not for, weights, inputs, outputs and all arithmetic are float16.
    """
    layers = Layers(Graph(half), to_state_dict(variables, entries(network)))
    match network:
        case MODNet():
            outputs = [_modnet(layers, "input")]
        case U2Net():
            outputs = [_u2net(layers, "input", network.variant)]
        case MattingBase():
            alpha, residual, error, hidden = _coarse(layers, "src", "bgr", network.backbone)
            outputs = [alpha, layers.clip(layers.add("Add", residual, "src")), error, hidden]
        case MattingRefine():
            outputs = _refined(layers, network, size)
    for name, value in zip(outputs_of(network), outputs, strict=True):
        layers.graph.output(value, name)
    sides: tuple[int | str, ...] = ("batch", "height", "width") if size is None else (1, *size)
    batch, *hw = sides
    given = [tensor(name, (batch, 3, *hw), half=half) for name in inputs_of(network)]
    same = not isinstance(network, MattingRefine)
    names = {name: (f"{name}_height", f"{name}_width") for name in outputs_of(network)}
    gives = [
        tensor(name, (batch, channels, *(hw if same or name in ("pha", "fgr") else names[name])), half=half)
        for name, channels in outputs_of(network).items()
    ]
    properties = {"network": name_of(network), **(told or {})}
    if isinstance(network, MattingRefine):
        properties |= {"scale": repr(network.scale), "mode": network.mode, "sample_pixels": str(network.sample_pixels)}
    return onnx_graph.model(layers.graph, name_of(network), given, gives, properties)


@dataclass(frozen=True)
class Layers:
    """What adds a network's layers to a graph, by the names of its state_dict."""

    graph: Graph
    arrays: Mapping[str, np.ndarray]

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        return self.graph.add(operator, *inputs, **attributes)

    def conv(self, x: str, conv: str, norm: str = "", **form: int) -> str:
        """A convolution with the BatchNorm after it, if it has one: of all its channels, or of the first ones."""
        kernel = self.arrays[f"{conv}.weight"].astype(np.float64)
        bias = self.arrays.get(f"{conv}.bias")
        if norm:
            weight, shift, mean, var = (
                self.arrays[f"{norm}.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor, first = weight / np.sqrt(var + NORM_EPSILON), len(weight)
            bias = np.zeros(len(kernel)) if bias is None else bias.astype(np.float64)
            kernel = np.concatenate([kernel[:first] * factor[:, None, None, None], kernel[first:]])
            bias = np.concatenate([(bias[:first] - mean) * factor + shift, bias[first:]])
        return onnx_graph.conv(self.graph, x, conv, kernel, bias, **form)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def clip(self, x: str, low: float = 0, high: float = 1) -> str:
        ends = [self.graph.weight(f"clip_to_{end}", np.array(end)) for end in (low, high)]
        return self.add("Clip", x, *ends)

    def concatenate(self, *x: str) -> str:
        return self.add("Concat", *x, axis=1)

    def scaled(self, x: str, factor: float) -> str:
        return resize(self.graph, x, scales=self.graph.floats(1, 1, factor, factor))

    def resized(self, x: str, height_width: str) -> str:
        """Bilinear, to a size that is a value of the graph."""
        sizes = self.add("Concat", self.add("Shape", x, end=2), height_width, axis=0)
        return resize(self.graph, x, sizes=sizes)

    def like(self, x: str, other: str) -> str:
        """x in the size of another value."""
        return self.resized(x, height_and_width(self.graph, other))


def _mobilenetv2(layers: Layers, x: str, table: MobileNetV2, name: str, nested: bool) -> list[str]:
    """The features of its `taps`."""
    names = mobilenetv2_names(table, name, nested=nested)
    x = layers.clip(layers.conv(x, *next(names), stride=2), 0, 6)
    features, inputs = [x], table.stem
    for block in table.blocks:
        y = x
        for part in block.parts(inputs):
            form = {"stride": block.stride, "dilation": block.dilation, "groups": block.expanded}
            conv, norm = next(names)
            y = layers.conv(y, conv, norm, **(form if part == "depthwise" else {}))
            y = y if part == "project" else layers.clip(y, 0, 6)
        x = layers.add("Add", x, y) if block.adds_its_input(inputs) else y
        features.append(x)
        inputs = block.features
    if table.last:
        features.append(layers.clip(layers.conv(x, *next(names)), 0, 6))
    return [features[tap] for tap in table.taps]


def _modnet(layers: Layers, image: str) -> str:
    def block(name: str, *x: str, stride: int = 1) -> str:
        """Convolution, half of it normalised by the image's own statistics, ReLU."""
        joined = layers.concatenate(*x) if len(x) > 1 else x[0]
        y = layers.conv(joined, f"{name}.layers.0", f"{name}.layers.1.bnorm", stride=stride)
        by_batch, by_image = layers.graph.add_many(2, "Split", y, axis=1)
        channels = len(layers.arrays[f"{name}.layers.1.bnorm.weight"])
        ones, zeros = (layers.graph.weight(f"{n}_{channels}", np.full(channels, n)) for n in (1, 0))
        by_image = layers.add("InstanceNormalization", by_image, ones, zeros, epsilon=NORM_EPSILON)
        return layers.relu(layers.concatenate(by_batch, by_image))

    def dense(x: str, name: str) -> str:
        matrix = layers.arrays[f"{name}.weight"]
        return onnx_graph.conv(layers.graph, x, name, matrix[:, :, None, None])

    def twice(x: str) -> str:
        return layers.scaled(x, 2)

    half, quarter = (layers.scaled(image, 1 / scale) for scale in (2, 4))
    enc2x, enc4x, _, _, enc32x = _mobilenetv2(layers, image, STRIDED, "backbone.model.features", nested=False)
    gate = layers.relu(dense(layers.add("GlobalAveragePool", enc32x), "lr_branch.se_block.fc.0"))
    x = layers.add("Mul", enc32x, layers.add("Sigmoid", dense(gate, "lr_branch.se_block.fc.2")))
    x = block("lr_branch.conv_lr16x", twice(x))
    lr8x = twice(block("lr_branch.conv_lr8x", twice(x)))

    enc2x = block("hr_branch.tohr_enc2x", enc2x)
    x = block("hr_branch.conv_enc2x", half, enc2x, stride=2)
    x = block("hr_branch.conv_enc4x", x, block("hr_branch.tohr_enc4x", enc4x))
    x = block("hr_branch.conv_hr4x.0", x, lr8x, quarter)
    x = block("hr_branch.conv_hr4x.2", block("hr_branch.conv_hr4x.1", x))
    x = block("hr_branch.conv_hr2x.0", twice(x), enc2x)
    for number in (1, 2, 3):
        x = block(f"hr_branch.conv_hr2x.{number}", x)

    x = block("f_branch.conv_f2x", twice(block("f_branch.conv_lr4x", lr8x)), x)
    x = block("f_branch.conv_f.0", twice(x), image)
    return layers.add("Sigmoid", layers.conv(x, "f_branch.conv_f.1.layers.0"))


def _u2net(layers: Layers, image: str, variant: str) -> str:
    table = VARIANTS[variant]
    x = image
    skips: list[str] = []
    for block in table.encoder:
        x = _u_block(layers, _pool(layers, x) if skips else x, block)
        skips.append(x)
    maps = [skips.pop()]
    for block in table.decoder:
        skip = skips.pop()
        x = _u_block(layers, layers.concatenate(layers.like(x, skip), skip), block)
        maps.insert(0, x)
    logits = [layers.like(layers.conv(x, f"side{number}"), image) for number, x in enumerate(maps, 1)]
    return layers.add("Sigmoid", layers.conv(layers.concatenate(*logits), "outconv"))


def _u_block(layers: Layers, x: str, block: Block) -> str:
    def unit(name: str, x: str, dilation: int = 1) -> str:
        path = f"{block.name}.rebnconv{name}"
        return layers.relu(layers.conv(x, f"{path}.conv_s1", f"{path}.bn_s1", dilation=dilation))

    x = y = unit("in", x)
    skips = []
    for level, dilation in enumerate(block.dilations, 1):
        halved = not block.dilated and 1 < level < block.levels
        y = unit(str(level), _pool(layers, y) if halved else y, dilation)
        skips.append(y)
    y = skips.pop()
    for level in range(block.levels - 1, 0, -1):
        skip = skips.pop()
        deep = y if block.dilated else layers.like(y, skip)
        y = unit(f"{level}d", layers.concatenate(deep, skip), block.dilations[level - 1])
    return layers.add("Add", x, y)


def _pool(layers: Layers, x: str) -> str:
    return layers.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)


def _coarse(layers: Layers, source: str, background: str, backbone: str) -> Sequence[str]:
    """Alpha and error in 0..1, foreground less source, hidden features, rectified: in the order of `CoarseMaps`."""
    table = BACKBONES[backbone]
    images = layers.concatenate(source, background)
    if isinstance(table, MobileNetV2):
        x1, x2, x3, x4 = _mobilenetv2(layers, images, table, "backbone.features", nested=True)
    else:
        x1, x2, x3, x4 = resnet(layers.graph, images, table, layers.arrays)

    def branch(x: str, name: str, dilation: int = 1, conv: int = 0) -> str:
        return layers.relu(layers.conv(x, f"{name}.{conv}", f"{name}.{conv + 1}", dilation=dilation))

    branches = [branch(x4, f"aspp.convs.{number}", dilation) for number, dilation in enumerate((1, 3, 6, 9))]
    mean = branch(layers.add("GlobalAveragePool", x4), "aspp.convs.4", conv=1)
    branches.append(layers.add("Expand", mean, layers.add("Shape", branches[0])))
    x = branch(layers.concatenate(*branches), "aspp.project")
    for number, skip in enumerate((x3, x2, x1), 1):
        joined = layers.concatenate(layers.like(x, skip), skip)
        x = layers.relu(layers.conv(joined, f"decoder.conv{number}", f"decoder.bn{number}"))
    raw = layers.conv(layers.concatenate(layers.like(x, images), images), "decoder.conv4")
    alpha, residual, error, hidden = layers.graph.add_many(4, "Split", raw, layers.graph.integers(1, 3, 1, 32), axis=1)
    return layers.clip(alpha), residual, layers.clip(error), layers.relu(hidden)


def _refined(layers: Layers, network: MattingRefine, size: tuple[int, int] | None) -> list[str]:
    graph = layers.graph
    whole = height_and_width(graph, "src")
    four, two = graph.integers(4), graph.integers(2)
    quarter, half = layers.add("Div", whole, four), layers.add("Div", whole, two)
    if size is None:
        ratio = graph.constant("scale", np.array(network.scale, np.float64))
        scaled = layers.add("Mul", layers.add("Cast", whole, to=onnx.TensorProto.DOUBLE), ratio)
        low = layers.add("Cast", layers.add("Floor", scaled), to=onnx.TensorProto.INT64)
    else:
        low = graph.integers(*scaled_size(size, network.scale))
    low_source, low_background = (layers.resized(x, low) for x in ("src", "bgr"))
    alpha, residual, error, hidden = _coarse(layers, low_source, low_background, network.backbone)

    images = layers.concatenate("src", "bgr")
    coarse = layers.concatenate(hidden, alpha, residual)
    smooth = layers.resized(layers.concatenate(alpha, residual), whole)
    at_half = layers.concatenate(layers.resized(coarse, half), layers.resized(images, half))
    wide, narrow = (3, 2) if network.kernel_size == 3 else (0, 0)
    padded = [
        layers.add("Pad", x, graph.integers(0, 0, margin, margin, 0, 0, margin, margin)) if margin else x
        for x, margin in ((at_half, wide), (images, narrow))
    ]
    uncertain = layers.resized(error, quarter)
    if network.mode == "sampling":
        target, refined = _patches(layers, padded, smooth, uncertain, network)
    else:
        target = _refiner(layers, *padded)
        threshold = graph.constant("threshold", np.array(network.threshold, np.float32))
        chosen = layers.add("Greater", uncertain, threshold)
        if network.mode == "full":
            chosen = layers.add("Or", chosen, layers.add("Not", chosen))
        refined = layers.add("Cast", chosen, to=onnx.TensorProto.FLOAT)
        every = graph.add(
            "Resize",
            refined,
            "",
            graph.floats(1, 1, 4, 4),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        if network.mode == "thresholding":
            target = layers.add("Where", layers.add("Cast", every, to=onnx.TensorProto.BOOL), target, smooth)
    fine, colours = graph.add_many(2, "Split", target, graph.integers(1, 3), axis=1)
    foreground = layers.clip(layers.add("Add", colours, "src"))
    coarse_foreground = layers.clip(layers.add("Add", residual, low_source))
    return [layers.clip(fine), foreground, alpha, coarse_foreground, error, refined]


def _refiner(layers: Layers, half: str, full: str) -> str:
    """The refiner's four convolutions, without padding: alpha and residual."""

    def conv(x: str, number: int) -> str:
        name = f"refiner.conv{number}"
        norm = f"refiner.bn{number}" if number < 4 else ""
        return layers.conv(x, name, norm, padding=0)

    x = layers.relu(conv(layers.relu(conv(half, 1)), 2))
    x = layers.graph.add(
        "Resize",
        x,
        "",
        layers.graph.floats(1, 1, 2, 2),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    return conv(layers.relu(conv(layers.concatenate(x, full), 3)), 4)


def _patches(layers: Layers, padded: Sequence[str], smooth: str, error: str, network: MattingRefine) -> tuple[str, str]:
    """The patches of each image with the greatest errors, refined; and which."""
    graph, add = layers.graph, layers.add
    integers = graph.integers

    def side(x: str, axis: int) -> str:
        return add("Shape", x, start=axis, end=axis + 1)

    batch, rows, columns = side(error, 0), side(error, 2), side(error, 3)
    flat = add("Reshape", error, add("Concat", batch, integers(-1), axis=0))  # [N, patches]
    count = add("Min", side(flat, 1), integers(network.sample_pixels // 16))
    errors, numbers = graph.add_many(2, "TopK", flat, count)  # [N, k]
    row, column = add("Div", numbers, columns), add("Mod", numbers, columns)
    image = add("Unsqueeze", _range(layers, batch), integers(1))  # [N, 1]

    def windows(x: str, step: int, size: int) -> str:
        """`[N·k, C, size, size]` of `[N, C, h, w]`."""
        pixels = add("Reshape", add("Transpose", x, perm=[0, 2, 3, 1]), add("Concat", integers(-1), side(x, 1), axis=0))
        offsets = graph.constant(f"offsets_{size}", np.arange(size, dtype=np.int64))
        place = add("Mul", image, side(x, 2))  # the first row of each image
        place = add("Add", add("Mul", row, integers(step)), place)  # [N, k]
        place = add("Add", add("Unsqueeze", place, integers(2)), offsets)  # [N, k, size]
        place = add("Mul", place, side(x, 3))
        across = add("Add", add("Unsqueeze", add("Mul", column, integers(step)), integers(2)), offsets)
        place = add("Add", add("Unsqueeze", place, integers(3)), add("Unsqueeze", across, integers(2)))
        cut = add("Gather", pixels, add("Reshape", place, integers(-1, size, size)), axis=0)
        return add("Transpose", cut, perm=[0, 3, 1, 2])

    half_margin, margin = (3, 2) if network.kernel_size == 3 else (0, 0)
    refined = _refiner(layers, windows(padded[0], 2, 2 + 2 * half_margin), windows(padded[1], 4, 4 + 2 * margin))

    # [N, 4, H, W] → [N · patches, 4 · 4 · 4], of which the chosen are replaced.
    blocks = add("Concat", batch, integers(4), rows, integers(4), columns, integers(4), axis=0)
    grid = add("Transpose", add("Reshape", smooth, blocks), perm=[0, 2, 4, 1, 3, 5])
    grid = add("Reshape", grid, integers(-1, 64))
    place = add("Add", numbers, add("Mul", image, side(flat, 1)))
    place = add("Reshape", place, integers(-1))
    chosen = add("Greater", add("Reshape", errors, integers(-1, 1)), graph.constant("zero", np.array(0, np.float32)))
    values = add("Where", chosen, add("Reshape", refined, integers(-1, 64)), add("Gather", grid, place, axis=0))
    at = add("Unsqueeze", place, integers(1))
    grid = add("ScatterND", grid, at, values)
    back = add("Concat", batch, rows, columns, integers(4, 4, 4), axis=0)
    target = add("Transpose", add("Reshape", grid, back), perm=[0, 3, 1, 4, 2, 5])
    target = add("Reshape", target, add("Shape", smooth))
    nothing = add("Reshape", add("Sub", error, error), integers(-1, 1))
    which = add("ScatterND", nothing, at, add("Cast", chosen, to=onnx.TensorProto.FLOAT))
    return target, add("Reshape", which, add("Shape", error))


def _range(layers: Layers, count: str) -> str:
    """0, 1, … of a length that is a value of the graph."""
    scalars = [layers.graph.constant(f"scalar_{n}", np.array(n, np.int64)) for n in (0, 1)]
    return layers.add("Range", scalars[0], layers.add("Squeeze", count), scalars[1])
