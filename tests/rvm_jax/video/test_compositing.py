"""Pictures of 8 bits from floats, and what is put behind people."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.video import compositing


@pytest.mark.parametrize(("dtype", "most"), [(jnp.uint8, 255), (jnp.uint16, 65535)])
def test_whole_numbers_are_rounded_and_taken_back(dtype, most):
    floats = jnp.array([0, 0.4 / most, 0.6 / most, 1.0], jnp.float32)
    assert compositing.to_integers(floats, dtype).tolist() == [0, 0, 1, most]
    every = jnp.arange(most + 1, dtype=dtype)
    assert (compositing.to_integers(compositing.to_floats(every, jnp.float32), dtype) == every).all()


def test_nothing_is_seen_of_what_was_cut_away_and_colours_of_people_go_on_beside_them():
    """People are light gray; what is around them has a colour of its own."""
    person = (np.arange(200) > 150)[None, None, :, None]
    foreground = jnp.asarray(np.where(person, 0.8, np.array([1, 0, 0.2])), jnp.float32).repeat(64, 1)
    alpha = jnp.asarray(np.where(person, 1, 1e-6), jnp.float32).repeat(64, 1)
    for dtype, most in ((jnp.uint8, 255), (jnp.uint16, 65535)):
        written = np.asarray(compositing.cut_out(foreground, alpha, dtype))
        assert written.dtype == dtype
        assert (written[0, :, 151:] == [*[round(0.8 * most)] * 3, most]).all()
        beside, far = written[0, :, 136:151], written[0, :, :100]
        assert (beside[..., 3] == 0).all()
        assert np.abs(beside[..., :3] - 0.8 * most).max() <= 1
        assert (far == 0).all()


def test_a_composite_mixes_by_alpha():
    foreground, alpha = jnp.full((2, 1, 1, 3), 0.8, jnp.float32), jnp.full((2, 1, 1, 1), 0.25, jnp.float32)
    background = jnp.array([[[[0.0, 0.4, 1.0]]]], jnp.float32)
    assert compositing.composite(foreground, alpha, background)[1, 0, 0].tolist() == [51, 128, 242]


@pytest.mark.parametrize(("height", "width"), [(128, 192), (101, 203), (20, 30)])
def test_blurring_takes_away_what_is_sharp_and_who_is_there(height, width):
    y, x = np.mgrid[:height, :width]
    stripes = 0.5 + 0.3 * ((x // 2 + y // 2) % 2)
    frames = np.repeat(stripes[None, ..., None], 3, -1).astype(np.float32)
    person = (np.abs(x - width / 2) < width / 8) & (y > height / 4)
    frames[0, person] = (1, 0, 0)
    alpha = person[None, ..., None].astype(np.float32)
    blurred = np.asarray(jax.jit(compositing.blurred)(frames, alpha))
    assert blurred.shape == frames.shape
    # What can be seen of it has the mean colour of the stripes, and none of the person's red.
    seen = blurred[0, ~person]
    assert np.abs(seen - 0.65).max() < (0.12 if min(height, width) < 64 else 0.05)
    assert np.abs(seen[:, 0] - seen[:, 1]).max() < 0.02


def test_where_there_are_only_people_their_own_colours_are_blurred():
    frames, alpha = jnp.full((1, 64, 64, 3), 0.3, jnp.float32), jnp.ones((1, 64, 64, 1), jnp.float32)
    assert jnp.allclose(compositing.blurred(frames, alpha), 0.3, atol=1e-3)
