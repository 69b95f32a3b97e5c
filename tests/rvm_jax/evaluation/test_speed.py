"""Multiply-adds and frames a second of networks."""

import jax

from rvm_jax.evaluation import speed


def test_multiply_adds_are_those_of_the_convolutions(matte):
    small, large = (speed.multiply_adds(matte, (64, width), 1.0) for width in (64, 128))
    kernels = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(matte.variables["params"])
    }
    # What sees the mean of a frame works as much for any size; all else twice as much for twice the pixels.
    constant = sum(
        leaf.size
        for name, leaf in kernels.items()
        if name.endswith("kernel") and ("gate_conv" in name or "squeeze_excite" in name)
    )
    assert large - constant == 2 * (small - constant)
    # At full size there are the last two convolutions of the decoder and the head.
    at_full_size = sum(kernels[f"{name}/kernel"].size for name in ("decoder/conv0", "decoder/conv0b", "project_mat"))
    assert 0.2 < at_full_size * 64 * 64 / small < 0.5


def test_speed_is_frames_by_seconds(matte, monkeypatch):
    monkeypatch.setattr(speed, "SIZES", {"small": (32, 48, 1.0)})
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    measured = speed.measure(matte, "small", "ours")
    assert measured.multiply_adds == speed.multiply_adds(matte, (32, 48), 1.0)
    assert measured.frames_per_second > 0
