"""Published figures stand beside those of the same sets."""

from rvm_jax.evaluation import scoreboard


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
