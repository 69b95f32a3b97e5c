"""Pictures of 8 bits from floats, and what is put behind people."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.video import compositing


def test_bytes_are_rounded():
    assert compositing.to_uint8(jnp.array([0, 0.4 / 255, 0.6 / 255, 1.0], jnp.float32)).tolist() == [0, 0, 1, 255]


def test_nothing_is_seen_of_what_was_cut_away():
    foreground = jnp.full((1, 1, 3, 3), 0.8, jnp.float32)
    alpha = jnp.array([0.0, 0.001, 1.0], jnp.float32).reshape(1, 1, 3, 1)
    written = compositing.cut_out(foreground, alpha)
    assert written.dtype == jnp.uint8
    assert written.tolist() == [[[[0, 0, 0, 0], [0, 0, 0, 0], [204, 204, 204, 255]]]]


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
