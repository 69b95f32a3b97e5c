"""Pre- and post-processing of the baselines against their released scripts."""

import json

import numpy as np
import pytest

from rvm_jax.baselines import images
from rvm_jax.errors import InputError
from tests.reference import cast
from tests.reference.baseline_recipe import image, photo
from tests.reference.test_baselines import ALL, BASELINES, apply, network_of, variables_of

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
    given = images.area_resize(image(seed, 1, height, width, 3)[0], (rows, columns))
    np.testing.assert_allclose(given, ARRAYS[f"area.{seed}"][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES["modnet"], ids=lambda case: str(case["seed"]))
def test_modnet_input(case):
    step = case["input_stride"]
    given = images.modnet_input(photo(case["seed"], *case["shape"]))
    assert given.shape[1:3] == tuple(case["network_size"])
    np.testing.assert_allclose(given[:, ::step, ::step], ARRAYS[f"modnet.{case['seed']}.input"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES["u2net"], ids=lambda case: str(case["seed"]))
def test_u2net_input(case):
    step = case["input_stride"]
    given = images.u2net_input(photo(case["seed"], *case["shape"]))[0, ::step, ::step]
    np.testing.assert_allclose(given, ARRAYS[f"u2net.{case['seed']}.input"], rtol=0, atol=1e-6)


def test_u2net_input_is_antialiased_where_it_shrinks():
    """Else rows would be black and white in turn: a deviation of 0.5."""
    stripes = np.zeros((960, 320, 3), np.uint8)
    stripes[::2] = 255
    inside = images.u2net_input(stripes)[0, 8:-8, :, 0] * images.STD[0] + images.MEAN[0]
    assert inside.std() < 0.05


def test_a_map_without_contrast_is_black():
    assert not images.u2net_mask(np.full((1, 8, 8, 1), 0.5), (4, 6)).any()


@WHOLE
@pytest.mark.parametrize("case", CASES["modnet"], ids=lambda case: str(case["seed"]))
def test_modnet_from_picture_to_matte(case):
    network = network_of("modnet")
    given = images.modnet_input(photo(case["seed"], *case["shape"]))
    matte = np.asarray(apply(network, cast(variables_of("modnet", network), "float32"), [given])["matte"])
    result = images.area_resize(matte[0], tuple(case["shape"]))[..., 0]
    np.testing.assert_allclose(result, ARRAYS[f"modnet.{case['seed']}.result"], rtol=0, atol=3 * case["float32_noise"])


@WHOLE
@pytest.mark.parametrize("case", CASES["u2net"], ids=lambda case: str(case["seed"]))
def test_u2net_from_picture_to_mask(case):
    network = network_of(case["variant"])
    given = images.u2net_input(photo(case["seed"], *case["shape"])).astype(np.float64)
    alpha = apply(network, cast(variables_of(case["variant"], network), "float64"), [given])["d0"]
    mask = images.u2net_mask(alpha, tuple(case["shape"]))
    np.testing.assert_array_equal(mask, ARRAYS[f"u2net.{case['seed']}.mask"])
