"""What the baselines refuse, and what batches and patches must not change."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.folding import fold_batch_norm
from rvm_jax.baselines.layers import max_pool
from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.baselines.modnet import IBConv, MODNet, SqueezeExcite, modnet_layers
from rvm_jax.baselines.names import entries, name_of
from rvm_jax.baselines.refiner import Patches, Refiner, most_uncertain, refine_everywhere, refine_patches
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.errors import InputError
from rvm_jax.matte import save
from rvm_jax.model.layers import BatchNorm
from rvm_jax.model.platforms import tracing_for
from rvm_jax.weights.names import to_variables


def norm(**options):
    return BatchNorm(use_running_average=True, **options)


def test_every_patch_is_what_the_whole_image_gives():
    """In each image of a batch, at the borders as well; what is not chosen stays."""
    random = np.random.default_rng(0)
    shapes = ((4, 6, 36), (16, 24, 6), (16, 24, 4))
    coarse, images, smooth = (jnp.asarray(random.random((2, *shape))) for shape in shapes)
    refiner = Refiner(3, norm)
    variables = jax.jit(refiner.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 42)), jnp.zeros((1, 8, 8, 6)))
    numbers = jnp.asarray(np.stack([random.permutation(24)[:9] for _ in range(2)]), jnp.int32)
    chosen = jnp.ones((2, 9), bool).at[1, 4:].set(False)

    def both(refiner):
        return refine_everywhere(refiner, coarse, images), refine_patches(
            refiner, coarse, images, smooth, Patches(numbers, chosen)
        )

    whole, (target, refined) = jax.jit(partial(refiner.apply, method=both))(variables)
    assert refined.sum((1, 2, 3)).tolist() == [9, 4]
    assert set(np.flatnonzero(refined[0])) == set(numbers[0].tolist())
    mask = refined.repeat(4, 1).repeat(4, 2)
    np.testing.assert_allclose(target, jnp.where(mask == 1, whole, smooth), rtol=0, atol=1e-12)


def test_no_more_patches_are_chosen_than_there_are_and_none_without_error():
    error = jnp.array([0.2, 0, 0.9, 0]).reshape(1, 2, 2, 1)
    patches = most_uncertain(error, 5000)
    assert patches.numbers.tolist()[0][:2] == [2, 0]
    assert patches.chosen.tolist() == [[True, True, False, False]]
    assert most_uncertain(error, 1).numbers.tolist() == [[2]]


def test_max_pool_takes_what_is_there_and_gives_its_gradient_to_the_first_of_equals():
    x = jnp.array([[1.0, 1, -3], [0, 1, -4], [-2, -2, -5]])[None, ..., None]
    assert max_pool(x)[0, ..., 0].tolist() == [[1, -3], [-2, -5]]
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    assert gradient[0, ..., 0].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


IMAGE = jnp.zeros((1, 64, 64, 3), jnp.float32)
REFUSED = {
    "modnet": (MODNet(), [IMAGE[:, :48]], "64x48: MODNet takes sides that are multiples of 32"),
    "refine": (MattingRefine(), [IMAGE[:, :, :62]] * 2, "62x64: refinement takes sides that are multiples of 4"),
    "bytes": (U2Net(), [IMAGE.astype(jnp.uint8)], "images are uint8: expected floats"),
    "shape": (U2Net(), [IMAGE[0]], r"shape \(64, 64, 3\): expected \[N, H, W, 3\]"),
    "variant": (U2Net("u3net"), [IMAGE], "unknown variant 'u3net': choose one of u2net, u2netp"),
    "backbone": (MattingBase("vgg"), [IMAGE] * 2, "unknown backbone 'vgg': choose one of resnet50"),
    "background": (MattingBase(), [IMAGE, IMAGE[:, :32]], "background has shape"),
    "scale": (MattingRefine(scale=0.75), [IMAGE] * 2, "scale is 0.75: expected a number above 0 and at most 0.5"),
    "mode": (MattingRefine(mode="random"), [IMAGE] * 2, "unknown mode 'random': choose one of full"),
    "kernel": (MattingRefine(kernel_size=5), [IMAGE] * 2, "kernel_size is 5: expected 1 or 3"),
}


@pytest.mark.parametrize(("network", "images", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_network_cannot_take_is_refused(network, images, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), *images)


def test_thresholding_is_not_for_training():
    network = MattingRefine("mobilenetv2", mode="thresholding")
    with pytest.raises(InputError, match="thresholding is for inference"):
        jax.eval_shape(lambda x: network.apply({}, x, x, train=True), IMAGE)


HALF = {
    "modnet": (MODNet(dtype="bfloat16"), 1),
    "u2netp": (U2Net("u2netp", dtype="bfloat16"), 1),
    "base": (MattingBase("mobilenetv2", dtype="bfloat16"), 2),
    "refine": (MattingRefine("mobilenetv2", dtype="bfloat16"), 2),
    "everywhere": (MattingRefine("mobilenetv2", mode="full", dtype="bfloat16"), 2),
}


@pytest.mark.parametrize(("network", "count"), HALF.values(), ids=HALF)
def test_half_precision_is_of_the_convolutions_alone(network, count):
    with tracing_for("cpu"):
        outputs_and_variables = jax.eval_shape(network.init_with_output, jax.random.key(0), *[IMAGE] * count)
    assert "bfloat16" not in {str(leaf.dtype) for leaf in jax.tree.leaves(outputs_and_variables)}


def test_modnet_starts_as_its_code_does():
    """Kaiming's uniform kernels, biases of 0; linear layers have PyTorch's default."""
    module = IBConv(6, 5, *modnet_layers(False, None, None), name="conv_lr4x")
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 2, 2, 32)))["params"]
    bound = (6 / (5 * 5 * 32)) ** 0.5
    assert 0.99 * bound < jnp.abs(params["conv"]["kernel"]).max() < bound
    assert not params["conv"]["bias"].any()
    squeeze = jax.jit(SqueezeExcite().init)(jax.random.key(0), jnp.zeros((1, 1, 1, 64)))["params"]["squeeze"]["kernel"]
    assert 0.95 / 8 < jnp.abs(squeeze).max() < 1 / 8


def test_batch_norm_of_some_channels_is_folded():
    """Of MODNet's blocks the first half; the bias of the convolution is scaled as well."""
    random = np.random.default_rng(0)
    x = random.random((1, 4, 4, 5))
    whole, folded = (IBConv(6, 3, *modnet_layers(False, None, None, folded)) for folded in (False, True))
    variables = {
        "params": {
            "conv": {"kernel": random.random((3, 3, 5, 6)), "bias": random.random(6)},
            "norm": {"scale": random.random(3), "bias": random.random(3)},
        },
        "batch_stats": {"norm": {"mean": random.random(3), "var": random.random(3), "count": np.int32(1)}},
    }
    given = jax.jit(folded.apply)(fold_batch_norm(variables), x)
    np.testing.assert_allclose(given, jax.jit(whole.apply)(variables, x), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("network", [MattingRefine("mobilenetv2"), U2Net("u2netp")], ids=name_of)
def test_folded_networks_are_the_same(network):
    random = np.random.default_rng(0)
    table = entries(network)
    arrays = {}
    for entry in table:
        array = random.uniform(0.5, 1.5, entry.torch_shape)
        if entry.kernel:
            array = random.standard_normal(entry.torch_shape) * (2 / np.prod(entry.torch_shape[1:])) ** 0.5
        arrays[entry.name] = np.zeros((), np.int64) if entry.path[-1] == "count" else np.asarray(array)
    matte = BaselineMatte(network, to_variables(arrays, table))
    images = [random.random((1, 32, 32, 3)) for _ in range(2 if isinstance(network, MattingRefine) else 1)]
    given, expected = (jax.jit(one.network.apply)(one.variables, *images)[:1] for one in (matte.folded(), matte))
    np.testing.assert_allclose(given[0], expected[0], atol=1e-9)
    assert matte.folded().folded().network.folded
    with pytest.raises(InputError, match="save what it was made of"):
        save(matte.folded(), "net.safetensors")
