"""Resizing against PyTorch's interpolation and pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rvm_jax.model import resize


@pytest.fixture(params=["cpu", "tpu", "default"])
def platform(request, monkeypatch) -> str:
    """Run the form that a platform would get, also those that this machine is not."""
    monkeypatch.setattr(
        resize.lax,
        "platform_dependent",
        lambda *operands, default, **forms: forms.get(request.param, default)(*operands),
    )
    monkeypatch.setattr(resize, "BAND", 5)  # several blocks even of small images
    resize._bands.cache_clear()
    return request.param


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def resize_both(x, size):
    return resize.resize_axis(resize.resize_axis(x, 2, size[1]), 1, size[0])


def check_with_gradient(function, twin, x: np.ndarray) -> None:
    x_torch = torch.tensor(np.moveaxis(x, -1, 1)).requires_grad_()
    expected = twin(x_torch)
    given, pullback = jax.vjp(function, jnp.asarray(x))
    np.testing.assert_allclose(given, np.moveaxis(expected.detach().numpy(), 1, -1), atol=1e-12)
    cotangent = np.random.default_rng(1).random(given.shape)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    (gradient,) = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(gradient, np.moveaxis(x_torch.grad.numpy(), 1, -1), atol=1e-12)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("ratio", [0.25, 0.37, 512 / 768, 0.9])
def test_downscale_steps_by_the_ratio(ratio):
    check_with_gradient(
        lambda x: resize.downscale(x, ratio),
        lambda x: F.interpolate(x, scale_factor=ratio, mode="bilinear", recompute_scale_factor=False),
        image(2, 41, 57, 3),
    )


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("size", "out_size"),
    [((6, 7), (24, 28)), ((5, 9), (19, 31)), ((9, 7), (4, 3)), ((1, 1), (5, 4))],
)
def test_resize_steps_by_the_sizes(size, out_size):
    check_with_gradient(
        lambda x: resize_both(x, out_size),
        lambda x: F.interpolate(x, size=out_size, mode="bilinear"),
        image(2, *size, 4),
    )


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(("size", "cropped"), [((4, 5), (8, 10)), ((4, 5), (7, 9)), ((1, 3), (1, 6))])
def test_upscale_twice_and_crop(size, cropped):
    check_with_gradient(
        lambda x: resize.upscale_twice(x, cropped),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")[:, :, : cropped[0], : cropped[1]],
        image(2, *size, 3),
    )


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 2), (1, 1)])
def test_halve_averages_the_pixels_that_exist(size):
    check_with_gradient(
        resize.halve,
        lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False),
        image(2, *size, 3),
    )


def test_scaled_size_rounds_down():
    assert resize.scaled_size((1080, 1920), 0.25) == (270, 480)
    assert resize.scaled_size((110, 150), 0.3) == (33, 45)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtype_is_kept(dtype):
    x = jnp.ones((1, 4, 6, 2), dtype)
    for given in (
        resize.downscale(x, 0.6),
        resize_both(x, (9, 9)),
        resize.upscale_twice(x, (8, 11)),
        resize.halve(x),
    ):
        assert given.dtype == dtype
        np.testing.assert_array_equal(given, jnp.ones_like(given))
