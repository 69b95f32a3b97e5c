"""Released ONNX files as weights: the folded network is the same, and other files are told."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rvm_jax import load
from rvm_jax.errors import InputError
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.files import Weights, read_weights, write_weights
from rvm_jax.weights.names import entries, is_encoder, to_state_dict
from tests.rvm_jax.conftest import random_variables


@pytest.fixture(scope="module")
def weights() -> Weights:
    return Weights(VARIANTS["tiny"], "deep_guided_filter", random_variables(MattingNetwork("tiny")))


def released(weights: Weights, dtype: type = np.float32) -> onnx.ModelProto:
    """A model as PyTorch's exporter leaves it: BatchNorm is folded, and what is folded has a number for a name."""
    table, arrays = entries(weights.variant), to_state_dict(weights.variables, entries(weights.variant))
    tensors, nodes = [], []

    def add(name: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    for number, entry in enumerate(table):
        if not entry.kernel or entry.name.startswith("project_seg"):
            continue
        following = table[number + 1] if number + 1 < len(table) else entry
        if following.path[-1] == "scale":
            scale, bias, mean, var = (arrays[one.name].astype(np.float64) for one in table[number + 1 : number + 5])
            factor = scale / np.sqrt(var + (1e-3 if is_encoder(entry) else 1e-5))
            folded = arrays[entry.name] * factor[:, None, None, None], bias - mean * factor
            names = [add(str(900 + 2 * number + i), array) for i, array in enumerate(folded)]
        else:
            names = [add(entry.name, arrays[entry.name])]
            if following.path[-1].endswith("bias"):
                names.append(add(following.name, arrays[following.name]))
        nodes.append(helper.make_node("Conv", ["x", *names], [f"y{number}"], name=f"Conv_{number}"))
        nodes.append(helper.make_node("Relu", [f"y{number}"], ["x"]))
    shape = numpy_helper.from_array(np.array([1, 2]), "999")
    graph = helper.make_graph(nodes, "network", [], [], [*tensors, shape])
    return helper.make_model(graph, producer_name="pytorch")


def save(model: onnx.ModelProto, path) -> object:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    return save(released(weights), tmp_path_factory.mktemp("onnx") / "released.onnx")


def test_it_mattes_as_what_it_was_made_of(weights, file, tmp_path):
    frames = np.random.default_rng(0).random((1, 2, 64, 48, 3), np.float32)
    write_weights(weights, tmp_path / "whole")
    folded, whole = (load(path)(frames, downsample_ratio=0.5) for path in (file, tmp_path / "whole"))
    np.testing.assert_allclose(folded.alpha, whole.alpha, atol=2e-5)
    np.testing.assert_allclose(folded.foreground, whole.foreground, atol=2e-5)


def test_it_is_converted_to_the_usual_format(file, tmp_path):
    write_weights(read_weights(file), tmp_path / "a.safetensors")
    again = read_weights(tmp_path / "a.safetensors")
    assert again.refiner == "deep_guided_filter"
    assert not again.variables["params"]["project_seg"]["kernel"].any()


def test_half_precision_is_widened(weights, tmp_path):
    found = read_weights(save(released(weights, np.float16), tmp_path / "half.onnx"))
    kernel = found.variables["params"]["decoder"]["gru4"]["gates_kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(
        kernel, weights.variables["params"]["decoder"]["gru4"]["gates_kernel"], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.999])
def test_a_file_that_is_cut_is_told(file, tmp_path, share):
    content = file.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"cut\.onnx is not an ONNX file, or it is damaged, "):
        read_weights(tmp_path / "cut.onnx")


def test_bytes_of_any_kind_are_told(file, tmp_path):
    random = np.random.default_rng(0)
    for number in range(50):
        content = bytearray(file.read_bytes()[:4000] if number % 2 else random.bytes(500))
        for place in random.integers(0, len(content), 8):
            content[place] = random.integers(0, 256)
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(InputError):
            read_weights(tmp_path / "a.onnx")


def test_numbers_beside_the_file_are_told(weights, tmp_path):
    model = released(weights)
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(InputError, match="or its weights lie beside it"):
        read_weights(save(model, tmp_path / "a.onnx"))


def test_other_networks_are_told(weights, tmp_path):
    model = released(weights)
    del model.graph.node[0]
    with pytest.raises(
        InputError, match=r"a\.onnx is not a released network: \d+ convolutions with a folded BatchNorm"
    ):
        read_weights(save(model, tmp_path / "a.onnx"))


def test_the_variant_may_be_ones_own(weights, file):
    mine = replace(weights.variant, name="mine")
    assert read_weights(file, mine).variant == mine
