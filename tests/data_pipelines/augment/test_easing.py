import math

import numpy as np
import pytest

from data_pipelines.augment import easing

# Each family's "in" curve in its textbook form, for one number.
TEXTBOOK = {
    "back": lambda t: (1.70158 + 1) * t**3 - 1.70158 * t**2,
    "bounce": lambda t: 1 - bounce_out(1 - t),
    "circular": lambda t: 1 - math.sqrt(1 - t**2),
    "exponential": lambda t: 0 if t == 0 else 2 ** (10 * t - 10),
    "elastic": lambda t: math.sin(13 * math.pi / 2 * t) * 2 ** (10 * (t - 1)),
    "quadratic": lambda t: t * t,
    "cubic": lambda t: t * t * t,
    "quartic": lambda t: t * t * t * t,
    "quintic": lambda t: t * t * t * t * t,
    "sine": lambda t: 1 + math.sin(math.pi / 2 * (t - 1)),
}


def bounce_out(t):
    arcs = [(1, 0, 0), (2, 1.5, 0.75), (2.5, 2.25, 0.9375), (2.75, 2.625, 0.984375)]
    middle, floor = next((middle, floor) for end, middle, floor in arcs if t <= end / 2.75)
    return 7.5625 * (t - middle / 2.75) ** 2 + floor


def curve(name, frames=101):
    return easing.ease(easing.NAMES.index(name), frames)


def test_there_are_thirty_curves_and_linear_and_a_step():
    assert len(easing.NAMES) == 32
    assert easing.NAMES[0] == "linear"
    np.testing.assert_allclose(curve("linear", 5), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(curve("step", 6), [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("name", easing.NAMES)
def test_every_curve_goes_from_0_to_1(name):
    np.testing.assert_allclose(curve(name)[[0, -1]], [0, 1], atol=1e-3)
    np.testing.assert_array_equal(curve(name, 1), [0])


@pytest.mark.parametrize("family", TEXTBOOK)
def test_in_out_and_both(family):
    t = np.linspace(0, 1, 101)
    into = np.array([TEXTBOOK[family](x) for x in t])
    np.testing.assert_allclose(curve(f"{family} in"), into, atol=1e-12)
    np.testing.assert_allclose(curve(f"{family} out"), 1 - into[::-1], atol=1e-12)
    np.testing.assert_allclose(curve(f"{family} in-out")[:51], into[::2] / 2, atol=1e-12)
    np.testing.assert_allclose(curve(f"{family} in-out")[50:], 1 - into[::-2] / 2, atol=1e-12)


def test_only_back_and_elastic_overshoot():
    over = {name.split()[0] for name in easing.NAMES if curve(name).min() < -0.01 or curve(name).max() > 1.01}
    assert over == {"back", "elastic"}
