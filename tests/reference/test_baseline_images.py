"""Pre- and post-processing of the baselines against their released scripts."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rvm_jax.baselines import images
from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.errors import InputError
from tests.reference import cast
from tests.reference.baseline_recipe import image, photo
from tests.reference.test_baselines import ALL, BASELINES, network_of, variables_of

CASES = json.loads((BASELINES / "baseline_preprocess.json").read_text())
ARRAYS = np.load(BASELINES / "baseline_preprocess.npz")
WHOLE = pytest.mark.skipif(not ALL, reason="a network at full size: for RVM_REFERENCE")


@pytest.mark.parametrize(("height", "width", "rows", "columns"), CASES["modnet_size"])
def test_modnet_size(height, width, rows, columns):
    if rows and columns:
        assert images.modnet_size(height, width) == (rows, columns)
    else:
        with pytest.raises(InputError, match=f"short side has {min(height, width)} pixels"):
            images.modnet_size(height, width)


@pytest.mark.parametrize(("seed", "height", "width", "rows", "columns"), CASES["area"])
def test_area_resize(seed, height, width, rows, columns):
    given = images.resample(cast(image(seed, 1, height, width, 3), "float64"), (rows, columns), images.area_matrix)
    np.testing.assert_allclose(given, ARRAYS[f"area.{seed}"], rtol=0, atol=1e-6)


def frames_of(case):
    """The photo, `[1, H, W, 3]` in 0..1."""
    return cast(photo(case["seed"], *case["shape"])[None].astype(np.float64) / 255, "float64")


def modnet_input(case):
    return images.modnet_input(frames_of(case), images.modnet_size(*case["shape"]))


@pytest.mark.parametrize("case", CASES["modnet"], ids=lambda case: str(case["seed"]))
def test_modnet_input(case):
    step = case["input_stride"]
    given = modnet_input(case)
    assert given.shape[1:3] == tuple(case["network_size"])
    np.testing.assert_allclose(given[:, ::step, ::step], ARRAYS[f"modnet.{case['seed']}.input"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES["u2net"], ids=lambda case: str(case["seed"]))
def test_u2net_input(case):
    step = case["input_stride"]
    given = images.u2net_input(frames_of(case))[0, ::step, ::step]
    np.testing.assert_allclose(given, ARRAYS[f"u2net.{case['seed']}.input"], rtol=0, atol=1e-6)


def test_u2net_input_is_antialiased_where_it_shrinks():
    """Else rows would be black and white in turn: a deviation of 0.5."""
    stripes = np.zeros((1, 960, 320, 3), np.float32)
    stripes[:, ::2] = 1
    inside = images.u2net_input(jnp.asarray(stripes))[0, 8:-8, :, 0] * images.STD[0] + images.MEAN[0]
    assert inside.std() < 0.05


def test_a_map_without_contrast_is_black():
    assert not images.u2net_mask(jnp.full((1, 8, 8, 1), 0.5), (4, 6)).any()


def test_masks_are_resized_as_pil_does():
    maps = np.random.default_rng(0).random((2, 40, 40, 1)).astype(np.float32)
    for size in ((23, 61), (97, 17)):
        given = images.u2net_mask(jnp.asarray(maps), size)
        for mask, one in zip(given, maps[..., 0], strict=True):
            stretched = (one - one.min()) / (one.max() - one.min())
            expected = Image.fromarray((stretched * 255).astype(np.uint8)).resize(size[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(np.round(mask[..., 0] * 255), np.asarray(expected))


@WHOLE
@pytest.mark.parametrize("case", CASES["modnet"], ids=lambda case: str(case["seed"]))
def test_modnet_from_picture_to_matte(case):
    network = network_of("modnet")
    matte = BaselineMatte(network, cast(variables_of("modnet", network), "float32"))
    result = matte(photo(case["seed"], *case["shape"])).alpha[..., 0]
    np.testing.assert_allclose(result, ARRAYS[f"modnet.{case['seed']}.result"], rtol=0, atol=3 * case["float32_noise"])


@WHOLE
@pytest.mark.parametrize("case", CASES["u2net"], ids=lambda case: str(case["seed"]))
def test_u2net_from_picture_to_mask(case):
    network = network_of(case["variant"])
    matte = BaselineMatte(network, cast(variables_of(case["variant"], network), "float64"))
    mask = matte(photo(case["seed"], *case["shape"])).alpha[..., 0]
    np.testing.assert_array_equal(np.round(mask * 255), ARRAYS[f"u2net.{case['seed']}.mask"])
