"""Published figures stand beside those of the same sets, and charts show the frames that all clips know."""

from pathlib import Path

import pytest

from rvm_jax.evaluation import scoreboard
from rvm_jax.evaluation.evaluate import Scored


def test_published_figures_stand_beside_equal_sets():
    assert [name for name, _ in scoreboard.published("aim_motion", (512, 512))] == [
        "MODNet (published)",
        "BGMv2 (published)",
        "RVM (published)",
    ]
    for high_resolution in (False, True):  # Grad of large frames is without stretching, that of small ones with
        large = dict(scoreboard.published("d646", (2048, 2048), high_resolution=high_resolution))["RVM (published)"]
        small = dict(scoreboard.published("d646", (512, 512), high_resolution=high_resolution))["RVM (published)"]
        assert ("grad" in large, "grad" in small) == (high_resolution, not high_resolution)
    ours = dict(scoreboard.published("video_matte_240k_hd", (1080, 1920)))["RVM (published)"]
    assert ours == {"mad": 6.57, "mse": 1.93, "dtssd": 1.90}
    assert scoreboard.published("aim_motion", (288, 512)) == []
    assert scoreboard.published("synthetic", (512, 512)) == []
    for name in ("videomatte_static", "VideoMatte240K_512x288", "vm_motion", "video_matte_240k_sd_motion"):
        assert scoreboard.published(name, (288, 512)), name
    for name in ("vmware_demo", "aim_of_mine_static", "d6467"):
        assert scoreboard.published(name, (512, 512)) == scoreboard.published(name, (288, 512)) == [], name


@pytest.mark.parametrize("apart_is_first", [True, False])
def test_clips_with_truth_on_some_frames_are_shown_by_their_numbers(apart_is_first):
    apart = Scored("a", "real", [0, 2, 5], {"mad": [1.0, 3.0, 5.0]}, *[Path()] * 3)
    whole = Scored("b", "real", range(4), {"mad": [10.0, 20.0, 30.0, 40.0], "dtssd": [0.0, 7, 8, 9]}, *[Path()] * 3)
    results = {"ours": [apart, whole] if apart_is_first else [whole, apart]}
    (mad,), (dtssd,) = (scoreboard.over_time(results, "real", metric) for metric in ("mad", "dtssd"))
    assert (mad.x.tolist(), mad.y.tolist()) == ([0, 2], [5.5, 16.5])
    assert (dtssd.x.tolist(), dtssd.y.tolist()) == ([1, 2, 3], [7, 8, 9])
