import re
from xml.etree import ElementTree

import numpy as np
import pytest

from rvm_jax.report import charts
from rvm_jax.report.charts import Line


def points(svg, kind="polyline"):
    """The places of each line of a chart: [lines][n, 2]."""
    found = [e for e in ElementTree.fromstring(svg).iter() if e.tag == kind]
    return [np.array([p.split(",") for p in e.get("points").split()], float) for e in found]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (2e-5, "2e-5"),
        (1.234e-4, "1.23e-4"),
        (0.02, "0.02"),
        (0.12345, "0.123"),
        (-3, "-3"),
        (1234, "1234"),
        (15000, "15k"),
        (2.5e6, "2.5M"),
        (3e9, "3G"),
    ],
)
def test_labels_are_short(number, text):
    assert charts.label(number) == text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 19999, [0, 5000, 10000, 15000]),
        (-3, 3, [-2, 0, 2]),
        (0, 2, [0, 0.5, 1, 1.5, 2]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.5, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]), (1e-4, 10, [1e-4, 1e-3, 1e-2, 0.1, 1, 10])],
)
def test_logarithmic_ticks_are_round(low, high, expected):
    exponents = charts.log_ticks(np.log10(low) - 1e-9, np.log10(high) + 1e-9)
    assert 10 ** np.array(exponents) == pytest.approx(expected)


def test_many_points_become_few_that_keep_what_sticks_out():
    x, y = np.arange(100_000), np.zeros(100_000)
    y[54_321], y[3] = 7, -7
    few_x, few_y = charts.thinned(x, y)
    assert len(few_x) == len(few_y) == charts.POINTS
    assert (few_y.max(), few_y.min()) == (7, -7)
    assert abs(few_x[few_y.argmax()] - 54_321) < 700
    assert (np.diff(few_x) >= 0).all()


def test_smoothing_is_a_mean_around_each_point():
    assert charts.smoothed(np.array([1.0, 2, 3, 4, 9]), 3) == pytest.approx([1.5, 2, 3, 16 / 3, 6.5])


def test_a_line_is_where_its_numbers_are():
    x, y = np.array([0, 5, 10]), np.array([2.0, 0.0, 1.0])
    svg = charts.chart([Line("<a>", x, y)], unit="loss", marks={})
    (line,) = points(svg)
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    assert line[:, 0] == pytest.approx([left, (left + right) / 2, right])
    assert line[1, 1] == charts.HEIGHT - charts.BOTTOM
    assert line[2, 1] == pytest.approx((line[0, 1] + line[1, 1]) / 2, abs=0.1)
    assert next(e.text for e in ElementTree.fromstring(svg).iter("text")) == "loss"


def test_a_logarithmic_scale_shows_ratios_and_leaves_out_the_rest():
    y = np.array([1.0, np.nan, 0.0, 0.1, 0.01, -1, np.inf])
    line = points(charts.chart([Line("a", np.arange(7), y)], unit="", marks={}, log=True))[0]
    assert line.shape == (3, 2)
    assert line[1, 1] - line[0, 1] == pytest.approx(line[2, 1] - line[1, 1], abs=0.15)


def test_a_noisy_line_is_smoothed_in_front_of_itself():
    x, y = np.arange(1000), np.arange(1000) % 2
    raw, smooth = points(charts.chart([Line("a", x, y.astype(float))], unit="", marks={}))
    assert np.ptp(raw[:, 1]) > 100
    assert np.ptp(smooth[20:-20, 1]) < 10


def test_numbers_that_cannot_be_drawn_leave_an_empty_chart():
    for y in (np.array([]), np.array([np.nan, np.inf]), np.zeros(2)):
        x = np.arange(len(y))
        for log in (True, False):
            ElementTree.fromstring(charts.chart([Line("a", x, y)], unit="", marks={0: "b"}, log=log))


def test_stages_are_marked_and_named_where_there_is_room():
    x = np.arange(1001)
    marks = {0: "stage 1", 500: "stage 2", 980: "stage 3", 990: "<4>", 2000: "stage 5"}
    root = ElementTree.fromstring(charts.chart([Line("a", x, x * 1.0)], unit="", marks=marks))
    lines = [e.get("d") for e in root.iter("path") if e.get("class") == "mark"]
    middle = charts.LEFT + (charts.WIDTH - charts.LEFT - charts.RIGHT) / 2
    assert sorted(float(re.match(r"M([\d.]+)", d)[1]) for d in lines)[0] == middle
    assert len(lines) == 3
    names = {e.text for e in root.iter("text")}
    assert {"stage 2", "<4>"} <= names
    assert not names & {"stage 1", "stage 3", "stage 5"}
