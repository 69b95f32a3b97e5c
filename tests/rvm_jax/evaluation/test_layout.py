"""Test sets and predictions on disk: what is read, and what is wrong with one told with its clip."""

import shutil

import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout
from rvm_jax.evaluation.methods import Method
from tests.rvm_jax.evaluation.testsets import faulty, run


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truth is JPEG", r"aim_static/0001 has its true alpha as JPEG \(0003.jpg\)"),
        ("truth is missing", "aim_static/0001 has no truth: expected pictures in .*aim_static/0001/pha"),
        ("composite is missing", r"aim_static/0001/com has 10 frames and .* 11: 1 missing \(0004\)"),
        ("clip is missing", "has no predictions of aim_static/0001"),
        ("folder is empty", "aim_static/0001 has no alpha"),
        ("frames are missing", r"aim_static/0001/pha has 10 frames and .*aim_static/0001 11: 1 missing \(0010\)"),
        ("names differ", r"1 missing \(0010\), 1 too many \(0011\)"),
        ("other size", "aim_static/0001/pha has 24×16 pixels, the truth 48×32"),
        ("one of other size", "0001.png has 48×32 pixels and .*0002.png has 40×32"),
        ("damaged", "aim_static/0001/pha/0002.png cannot be read as a picture"),
    ],
)
def test_what_is_wrong_is_told_with_the_clip(testset, tmp_path, fault, message):
    predictions = shutil.copytree(testset, tmp_path / "predictions")
    faulty(fault, testset, predictions)
    with pytest.raises(InputError, match=message) as caught:
        run(Method("theirs", predictions=predictions), testset, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", ["nothing", "file", "flat"])
def test_what_is_no_test_set(tmp_path, found):
    folder = tmp_path / "set"
    if found != "nothing":
        (folder / "clip" if found == "flat" else folder).mkdir(parents=True)
        (folder / "notes.txt").touch()
    message = "does not exist" if found == "nothing" else "is no test set: expected"
    with pytest.raises(InputError, match=message):
        layout.find(folder)


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA", "P"])
def test_alpha_is_read_from_wherever_it_is(tmp_path, mode):
    """Gray, or the alpha of a cut-out such as `rvm matte` writes, whatever its colours are."""
    alpha = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    gray, cut_out = Image.fromarray(alpha), Image.effect_noise((8, 8), 90).convert("RGB")
    indexed = Image.new("P", (8, 8), 7)
    indexed.putpalette(range(30))
    images = {"L": [gray], "RGB": [gray.convert("RGB")], "P": [indexed]}
    for kind in ("LA", "RGBA"):
        both = (gray if kind == "LA" else cut_out).convert(kind)
        both.putalpha(gray)
        images[kind] = [both, gray.convert(kind)]  # with alpha, and gray that some programs write as opaque
    for image in images[mode]:
        transparency = {"transparency": bytes([0] * 7 + [99])} if mode == "P" else {}
        image.save(tmp_path / "a.png", **transparency)
        expected = np.full((8, 8), 99) if mode == "P" else alpha
        np.testing.assert_array_equal(layout.read_alpha(tmp_path / "a.png")[..., 0] * 255, expected)


def test_an_opaque_frame_of_a_cut_out_is_alpha_everywhere(tmp_path):
    Image.effect_noise((8, 8), 90).convert("RGB").point(lambda x: x // 2).convert("RGBA").save(tmp_path / "gray.png")
    colored = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    colored[..., 3] = 255
    Image.fromarray(colored).save(tmp_path / "a.png")
    assert (layout.read_alpha(tmp_path / "a.png") == 1).all()
    assert (layout.read_alpha(tmp_path / "gray.png") < 1).all()


def test_cut_out_frames_are_scored_by_their_alpha(testset, tmp_path):
    """Predictions as `rvm matte clip out/` writes them: perfect alpha, and colours."""
    predictions = shutil.copytree(testset, tmp_path / "predictions")
    for path in predictions.rglob("pha/*.png"):
        colors = Image.open(path.parent.parent / "fgr" / path.name)
        colors.putalpha(Image.open(path).copy())
        colors.save(path)
    for scored in run(Method("theirs", predictions=predictions), testset, tmp_path / "out"):
        assert set(scored.scores["mad"]) == {0.0}
