"""Networks of other kinds beside RVM: what they are given, what is kept of them, and the picture of all methods.

Stand-ins see what the networks would see.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rvm_jax.baselines.background_matting import MattingRefine, MattingRefineOutput
from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.baselines.modnet import MODNet, MODNetOutput
from rvm_jax.errors import InputError
from rvm_jax.evaluation import evaluate, side_by_side, speed
from rvm_jax.evaluation.methods import Method, choose_methods
from rvm_jax.model.layers import Conv
from tests.rvm_jax.conftest import write_tiny
from tests.rvm_jax.evaluation.testsets import FRAMES, run, stack, write_clip

NOTHING = {"params": {"of": jnp.zeros((), jnp.float32)}}


class Difference(MattingRefine):
    """Alpha is how far the red is from that of the background; the foreground is the source."""

    def __call__(self, source, background, **_):
        alpha = jnp.abs(source - background)[..., :1]
        return MattingRefineOutput(alpha, source, *(alpha,) * 4)


class Red(MODNet):
    """Alpha is the red of what it sees."""

    def __call__(self, images, **_):
        return MODNetOutput(images[..., :1] / 2 + 0.5, None, None)


BGMV2 = Method("bgmv2", matte=BaselineMatte(Difference("mobilenetv2"), NOTHING))
MODNET = Method("modnet", matte=BaselineMatte(Red(), NOTHING))


@pytest.fixture
def testset(tmp_path):
    """A clip with a background for each frame, and one with one for all."""
    for number, (name, count) in enumerate((("aim_motion/0000", FRAMES), ("aim_static/0000", 1))):
        folder = tmp_path / "set" / name
        write_clip(folder, number)
        (folder / "bgr").mkdir()
        for frame in range(count):
            shade = 20 * frame + 10
            Image.new("RGB", (48, 32), (shade, shade, shade)).save(folder / "bgr" / f"{frame:04d}.png")
    return tmp_path / "set"


def test_a_network_that_wants_backgrounds_is_given_those_of_its_frames(testset, tmp_path):
    run(BGMV2, testset, tmp_path / "out", save_predictions=tmp_path / "saved")
    for name in ("aim_motion/0000", "aim_static/0000"):
        com, bgr = stack(testset / name / "com", 3), stack(testset / name / "bgr", 3)
        found = stack(tmp_path / "saved" / "bgmv2" / name / "pha", 1)
        np.testing.assert_allclose(found, np.abs(com - bgr)[..., :1], atol=0.6 / 255)
    (only,) = (testset / "aim_static" / "0000" / "bgr").iterdir()
    Image.new("RGB", (24, 16), "gray").save(only)
    with pytest.raises(InputError, match=r"^aim_static/0000/bgr has 24×16 pixels, the truth 48×32: expected one"):
        run(BGMV2, testset, tmp_path / "out")
    (testset / "aim_motion" / "0000" / "bgr" / "0003.png").unlink()
    with pytest.raises(InputError, match=r"aim_motion/0000/bgr has 10 frames and the clip aim_motion/0000 11"):
        run(BGMV2, testset, tmp_path / "out")
    for path in (testset / "aim_static" / "0000" / "bgr").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"^aim_static/0000 has no background, which a method wants"):
        evaluate.check(evaluate.layout.find(testset)[1:], BGMV2)


def test_a_network_without_foreground_is_not_scored_twice(testset, tmp_path, monkeypatch):
    options = {"out": tmp_path / "out", "save_predictions": tmp_path / "saved"}
    first = run(MODNET, testset, **options)
    assert all("fgr_mad" not in scored.scores for scored in first)
    assert not list((tmp_path / "saved").rglob("fgr"))
    monkeypatch.setattr(evaluate, "_score", None)
    assert run(MODNET, testset, **options) == first


def test_only_what_has_a_memory_comes_once_more_without(testset, tmp_path, monkeypatch):
    monkeypatch.setattr("rvm_jax.evaluation.methods.load", lambda path, precision: MODNET.matte)
    tiny = write_tiny(tmp_path)
    assert [one.name for one in choose_methods([f"modnet={tiny}"], [], without_memory=True)] == ["modnet"]


def test_the_picture_has_the_same_frame_by_all_methods(matte, testset, tmp_path):
    methods = [Method("ours", matte=matte), MODNET, BGMV2]
    results = {one.name: run(one, testset, tmp_path / "out") for one in methods}
    side_by_side.write(tmp_path / "methods.png", results)
    with Image.open(tmp_path / "methods.png") as image:
        sheet = np.asarray(image)
    width, label = sheet.shape[1] // 5, side_by_side.LABEL
    assert sheet.shape == (label + 2 * (32 + label), 5 * width, 3)
    assert width > side_by_side.FONT.getlength("aim_motion/0000") > 48  # a name does not run into the next
    for row, name in enumerate(("aim_motion/0000", "aim_static/0000")):
        top = label + row * (32 + label)
        com, bgr = (stack(testset / name / kind, 3) for kind in ("com", "bgr"))
        differences = np.abs(com - bgr)[..., :1].repeat(3, -1)
        for column, expected in ((0, com), (4, differences)):
            shown = sheet[top : top + 32, column * width : column * width + 48] / 255
            assert np.abs(shown - expected[FRAMES // 2]).max() < 1.1 / 255
    assert len({scored.middle for scored in results["ours"]}) == 2


class Scaled(MattingRefine):
    """Alpha is a convolution of the frames at `scale`."""

    @nn.compact
    def __call__(self, source, background, **_):
        step = round(1 / self.scale)
        alpha = Conv(1, 3, name="conv")(source[:, ::step, ::step]).repeat(step, 1).repeat(step, 2)
        return MattingRefineOutput(alpha, source, *(alpha,) * 4)


def test_work_of_other_networks_is_counted_at_the_size_that_they_see(monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    kernel = jnp.zeros((3, 3, 3, 1), jnp.float32)
    matte = BaselineMatte(Scaled("mobilenetv2"), {"params": {"conv": {"kernel": kernel}}})
    for ratio in (0.5, 0.25):
        assert speed.multiply_adds(matte, (32, 48), ratio) == 32 * 48 * ratio**2 * kernel.size
    assert speed.frames_per_second(matte, (32, 48), 0.5) > 0
    assert MODNET.matte.seen((1080, 1920)) == (512, 896)
