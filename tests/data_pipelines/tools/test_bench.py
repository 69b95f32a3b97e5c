import time

import pytest

from data_pipelines.pipelines import datasets
from data_pipelines.pipelines.workers import Workers
from data_pipelines.tools import bench
from data_pipelines.tools.bench import Rate

NAMES = ["synthetic/tiny_matting_clips", "synthetic/tiny_background_clips", "synthetic/tiny_background_images"]


def test_every_stage_is_counted(prepared):
    data = datasets.open_named(NAMES, "train", prepared)
    costs = bench.costs(data, frames=4, size=48, clips=3)
    assert set(costs) == {"draw", "read", "rest", *bench.NAMES}
    assert all(cost.milliseconds > 0 for cost in costs.values())
    assert 1 < costs["warp"].calls <= 3  # three pictures a frame, or fewer where nothing moves
    calls = {name: cost.calls for name, cost in costs.items()}
    assert calls["warp"] == calls["sharpen"] == calls["blur"] > calls["noise"] == calls["adjust colours"] > 0.5
    assert costs["draw"].calls == 3 / 12
    assert costs["decode colour"].megabytes_per_second > 0
    lines = bench.table(costs).splitlines()
    assert len(lines) == 1 + len(costs) + 1
    assert lines[0].split() == ["stage", "ms", "a", "frame", "calls", "a", "frame", "MB/s"]


def test_the_whole_pipeline_is_counted(prepared):
    data = datasets.open_named(NAMES, "train", prepared)
    begin = time.perf_counter()
    with Workers(processes=0) as workers:
        rate = bench.whole(data, frames=3, size=48, batch=2, batches=2, workers=workers)
    assert 0 < rate.seconds < time.perf_counter() - begin
    assert rate.frames == 12
    assert 12 * 7 * 24 * 24 <= rate.megabytes * 1e6 <= 12 * 7 * 48 * 48
    assert rate.core_seconds > 0


@pytest.mark.parametrize(
    ("arrangement", "told"), [({"processes": 0, "threads": 3}, "3 threads"), ({"processes": 1}, "1 worker processes")]
)
def test_a_rate_says_how_many_cores_accelerators_need(arrangement, told):
    rate = Rate(frames=300, seconds=2.0, core_seconds=3.0, megabytes=100.0)
    with Workers(**arrangement) as workers:
        assert bench.describe(rate, workers, 8, 2000).splitlines() == [
            f"{told}: 150 frames/s on 1.5 cores, 50 MB/s, 100 frames/s a core",
            "8 × 2000 frames/s need 160 such cores (--data-processes 160)",
        ]
        assert bench.describe(rate, workers, 1, 700).endswith(
            "1 × 700 frames/s need 7 such cores (no worker processes)"
        )
