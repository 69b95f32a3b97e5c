import time

from data_pipelines.pipelines import datasets
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
    rate = bench.whole(data, frames=3, size=48, batch=2, batches=2)
    assert 0 < rate.seconds < time.perf_counter() - begin
    assert rate.frames == 12
    assert 12 * 7 * 24 * 24 <= rate.megabytes * 1e6 <= 12 * 7 * 48 * 48
    assert rate.core_seconds > 0


def test_a_rate_says_how_many_cores_an_accelerator_needs():
    rate = Rate(frames=300, seconds=2.0, core_seconds=3.0, megabytes=100.0)
    assert bench.describe(rate, 2000).splitlines() == [
        "150 frames/s on 1.5 cores, 50 MB/s: 100 frames/s a core",
        "an accelerator that takes 2000 frames/s needs 20.0 such cores, if more of them do as well",
    ]
