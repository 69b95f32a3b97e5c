"""What stages cost, and what the check foretells of its own length."""

import pytest

from data_pipelines.sampling.schedule import ClipShape, StageData
from tests.train import runs
from train.check import costs, overfit

SHAPES = {"batch": 8, "low": ClipShape(2, 64), "segmentation_size": 32, "buckets": 1}
LOW = StageData(iterations=3, **SHAPES)
HIGH = StageData(iterations=1, high=ClipShape(2, 128), **SHAPES)


def test_a_cpu_says_how_long_it_takes_if_that_is_long():
    stages = [LOW, StageData(iterations=0, **SHAPES), HIGH]
    low, segmentation, high = 16 * 48**2, 16 * 24**2, 16 * 96**2 * runs.HIGH.downsample_ratio**2
    # Two iterations of the first stage, one of the third
    pixels = overfit.STEPS * low + (1 + costs.TIMED) * (3 * low + 3 * segmentation + high)
    recipe = runs.RECIPE
    assert not list(costs.forecast(recipe, stages, 0.99 * costs.LONG / pixels))
    (found,) = costs.forecast(recipe, stages, 2 * 3600 / pixels)
    assert found.what == "note"
    assert found.text.startswith("on this CPU, what follows takes 2.0 hours or more")


@pytest.mark.parametrize(("data", "what", "hours"), [(0.5, "fine", "5.0"), (4.0, "note", "10.0")])
def test_a_stage_takes_what_the_slower_of_devices_and_data_take(monkeypatch, data, what, hours):
    stages = [StageData(iterations=0, **SHAPES), StageData(iterations=9000, **SHAPES)]
    asked = []
    monkeypatch.setattr(costs, "_devices", lambda recipe, stages, begin, programs, state: (asked.append(begin), 2.0))
    monkeypatch.setattr(costs, "_data", lambda *asked: data)
    stage, total = costs.measure(runs.RECIPE, stages, [], None, None, None)
    assert (stage.what, total.what, asked) == (what, "fine", [0])
    assert stage.text.startswith(
        f"stage 2: 9000 iterations of 2 s on the devices, whose data take {data:.3g} s: {hours} "
    )
    assert ("wait for data" in stage.text) == (what == "note")
    assert total.text.startswith(f"all stages: {hours} hours")
