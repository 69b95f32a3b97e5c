"""Released files of the baselines: told apart, read, and written again bit by bit."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.files import load, save
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.errors import InputError

NETWORKS = {
    "modnet": MODNet(),
    "u2netp": U2Net("u2netp"),
    "base": MattingBase("mobilenetv2"),
    "refine": MattingRefine("mobilenetv2"),
    "refine_k1": MattingRefine("mobilenetv2", kernel_size=1),
}


@cache
def variables_of(name):
    """Random bits, some of which are no numbers: what is written must be what was given."""
    random = np.random.default_rng(0)
    images = [jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)] * (1 if name in ("modnet", "u2netp") else 2)
    shapes = jax.eval_shape(NETWORKS[name].init, jax.random.key(0), *images)

    def bits(leaf):
        if leaf.dtype == jnp.int32:
            return np.asarray(7, np.int32)
        return np.frombuffer(random.bytes(4 * leaf.size), np.float32).reshape(leaf.shape)

    return jax.tree.map(bits, {"params": shapes["params"], "batch_stats": shapes["batch_stats"]})


def assert_same_bits(given, expected):
    def compare(a, b):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32), strict=True)

    assert jax.tree.structure(given) == jax.tree.structure(expected)
    jax.tree.map(compare, given, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_tells_its_network(tmp_path, name):
    path = tmp_path / "file.safetensors"
    save(NETWORKS[name], variables_of(name), path)
    network, variables = load(path)
    assert network == NETWORKS[name]
    assert_same_bits(variables, variables_of(name))


def test_an_export_that_cannot_be_read_again_is_told(tmp_path):
    """TorchScript, which has the entries of convolutions alone."""
    path = tmp_path / "file.safetensors"
    save(NETWORKS["u2netp"], variables_of("u2netp"), path)
    save_file({name: array for name, array in load_file(path).items() if ".bn_s1." not in name}, path)
    with pytest.raises(InputError, match=r"file.safetensors holds u2netp with BatchNorm folded in: give what it"):
        load(path)


@pytest.mark.parametrize("ending", ["pth", "ckpt"])
def test_pytorchs_files(tmp_path, ending):
    torch = pytest.importorskip("torch")
    path = tmp_path / f"file.{ending}"
    save(NETWORKS["u2netp"], variables_of("u2netp"), path)
    entries = torch.load(path, weights_only=True)
    assert next(iter(entries)) == "module." * (ending == "ckpt") + "stage1.rebnconvin.conv_s1.weight"
    assert_same_bits(load(path)[1], variables_of("u2netp"))


def test_modnets_backbone_is_twice_in_its_file(tmp_path):
    path = tmp_path / "file.safetensors"
    save(NETWORKS["modnet"], jax.tree.map(np.zeros_like, variables_of("modnet")), path)
    entries = load_file(path)
    assert len(entries) == 751
    copy = "lr_branch.backbone.model.features.3.conv.4.bias"
    assert copy in entries
    entries[copy] = entries[copy] + 1
    save_file(entries, path)
    with pytest.raises(InputError, match=r"twice, with different values of 'model\.features\.3\.conv\.4\.bias'"):
        load(path)


def test_what_is_missing_or_too_much_is_named(tmp_path):
    path = tmp_path / "file.safetensors"
    save(NETWORKS["u2netp"], variables_of("u2netp"), path)
    entries = load_file(path)
    entries["outcome.bias"] = entries.pop("outconv.bias")
    save_file(entries, path)
    with pytest.raises(InputError, match=r"'u2netp'.*\n\+ outcome\.bias \[1\] float\n- outconv\.bias \[1\] float$"):
        load(path)


def test_what_cannot_be_read_again_is_not_written(tmp_path):
    variables = variables_of("u2netp")
    lacking = {**variables, "params": {name: tree for name, tree in variables["params"].items() if name != "outconv"}}
    with pytest.raises(InputError, match=r"what is to be .*file\.pth.*'u2netp'.*\n- params/outconv/bias \[1\] float\n"):
        save(NETWORKS["u2netp"], lacking, tmp_path / "file.pth")
    assert not any(tmp_path.iterdir())


def test_half_precision_is_widened(tmp_path):
    half = jax.tree.map(lambda x: np.ones(x.shape, jnp.bfloat16 if x.ndim else x.dtype), variables_of("u2netp"))
    save(NETWORKS["u2netp"], half, tmp_path / "file.pth")
    kernel = load(tmp_path / "file.pth")[1]["params"]["outconv"]["kernel"]
    assert (kernel.dtype, kernel.min(), kernel.max()) == (np.float32, 1, 1)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({"project_mat.conv.weight": np.zeros((4, 16, 1, 1), np.float32)}, path)
    with pytest.raises(InputError, match=r"neither MODNet, .*first of 1 entries is 'project_mat\.conv\.weight'"):
        load(path)
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match=r"ends in '\.onnx': expected \.pth or"):
        save(NETWORKS["u2netp"], variables_of("u2netp"), tmp_path / "file.onnx")
