"""The baselines' released ONNX and TorchScript files as weights."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.files import MODNET_COPY, MODNET_HEADS, load
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.names import entries, name_of
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.errors import InputError
from rvm_jax.weights.names import to_variables

NETWORKS = [MODNet(), U2Net("u2netp"), MattingBase("mobilenetv2"), MattingRefine("mobilenetv2")]


def random_state_dict(network):
    random = np.random.default_rng(0)
    arrays = {}
    for entry in entries(network):
        if entry.name.startswith(MODNET_COPY):
            arrays[entry.name] = arrays[entry.name.removeprefix("lr_branch.")]
        elif entry.path[-1] == "count":
            arrays[entry.name] = np.array(3, np.int64)
        else:
            arrays[entry.name] = random.uniform(0.5, 1.5, entry.torch_shape).astype(np.float32)
    return arrays


def exported(network, arrays):
    """A model as PyTorch's exporter leaves it: what is folded has a number for a name, and so have matrices.

    MODNet's InstanceNorms stand between most of its convolutions and BatchNorms, which are then not folded.
    """
    table = [one for one in entries(network) if not one.name.startswith((MODNET_COPY, *MODNET_HEADS))]
    tensors, nodes = [], []

    def add(name, array):
        tensors.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    for number, entry in enumerate(table):
        if not entry.kernel:
            continue
        following = [one.path[-1] for one in table[number + 1 : number + 3]]
        has_bias = following[:1] == ["bias"]
        names = [entry.name, *([table[number + 1].name] if has_bias else [])]
        norm = number + 1 + has_bias
        inputs = [arrays[name] for name in names]
        if len(entry.shape) == 2:
            nodes.append(helper.make_node("MatMul", ["x", add(f"onnx::MatMul_{number}", inputs[0].T)], ["x"]))
            continue
        if following[has_bias : has_bias + 1] == ["scale"] and ".bnorm." not in table[norm].name:
            scale, shift, mean, var = (arrays[one.name].astype(np.float64) for one in table[norm : norm + 4])
            factor = scale / np.sqrt(var + 1e-5)
            bias = inputs[1] if has_bias else 0
            inputs = [inputs[0] * factor[:, None, None, None], shift + (bias - mean) * factor]
            names = [str(900 + 2 * number + i) for i in range(2)]
        elif following[has_bias : has_bias + 1] == ["scale"]:
            for one in table[norm : norm + 4]:
                add(one.name, arrays[one.name])
        nodes.append(helper.make_node("Conv", ["x", *map(add, names, inputs)], ["x"]))
    return helper.make_model(helper.make_graph(nodes, "network", [], [], tensors), producer_name="pytorch")


@pytest.mark.parametrize("network", NETWORKS, ids=name_of)
def test_an_exported_file_is_the_folded_network(tmp_path, network):
    arrays, path = random_state_dict(network), tmp_path / "net.onnx"
    path.write_bytes(exported(network, arrays).SerializeToString())
    found, variables = load(path)
    assert found == network
    table = entries(network)
    given = dict(zip((entry.name for entry in table), leaves(variables, table), strict=True))
    expected = dict(zip((entry.name for entry in table), leaves(to_variables(arrays, table), table), strict=True))
    for number, entry in enumerate(table):
        if entry.name.startswith((MODNET_COPY, *MODNET_HEADS)) or entry.path[-1] == "count":
            continue
        if entry.path[-1] == "kernel" and len(entry.shape) == 4:
            one, other = (folded(table, number, of) for of in (given, expected))
            np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
            np.testing.assert_allclose(one[1], other[1], rtol=1e-5, atol=1e-5)
        elif entry.path[-1] == "kernel":
            np.testing.assert_array_equal(given[entry.name], expected[entry.name])


def leaves(variables, table):
    for entry in table:
        node = variables
        for key in entry.path:
            node = node[key]
        yield np.asarray(node, np.float64)


def folded(table, number, arrays):
    """A convolution with its BatchNorm, if it has one, as kernel and bias."""
    kernel, bias = arrays[table[number].name], 0.0
    following = number + 1
    if following < len(table) and table[following].path[-1] == "bias":
        bias = arrays[table[following].name]
        following += 1
    if following < len(table) and table[following].path[-1] == "scale" and ".bnorm." not in table[following].name:
        scale, shift, mean, var = (arrays[one.name] for one in table[following : following + 4])
        factor = scale / np.sqrt(var + 1e-5)
        kernel, bias = kernel * factor, shift + (bias - mean) * factor
    return kernel, bias


def test_an_onnx_file_of_something_else_is_told(tmp_path):
    path = tmp_path / "net.onnx"
    arrays = random_state_dict(NETWORKS[1])
    model = exported(NETWORKS[1], arrays)
    del model.graph.node[5]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"not an exported network that is known: \d+ convolutions"):
        load(path)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("half", [False, True])
def test_a_torchscript_file_is_its_state_dict(tmp_path, half):
    torch = pytest.importorskip("torch")
    network, path = NETWORKS[2], tmp_path / "torchscript.pth"
    arrays = random_state_dict(network)
    root = torch.nn.Module()
    for name, array in arrays.items():
        node = root
        for part in ("model", *name.split(".")[:-1]):
            if part not in dict(node.named_children()):
                node.add_module(part, torch.nn.Module())
            node = getattr(node, part)
        tensor = torch.from_numpy(array.copy())
        node.register_buffer(name.split(".")[-1], tensor.half() if half and array.dtype == np.float32 else tensor)

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.scale, self.sizes, self.mode = root.model, 0.25, [1, 2], "sampling"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Wrapped()).save(path)
    found, variables = load(path)
    assert found == network
    table = entries(network)
    if half:
        arrays = {name: array.astype(np.float16).astype(array.dtype) for name, array in arrays.items()}
    for given, wanted in zip(leaves(variables, table), leaves(to_variables(arrays, table), table), strict=True):
        np.testing.assert_array_equal(given, wanted)
