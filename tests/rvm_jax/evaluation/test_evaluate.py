"""Networks and predictions on a test set: what is scored, and what is kept."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.evaluation import evaluate, layout, metrics, scoring
from rvm_jax.evaluation.evaluate import Settings
from rvm_jax.evaluation.methods import Method
from tests.rvm_jax.evaluation.testsets import FRAMES, run, stack


def test_a_network_has_the_scores_of_its_predictions(matte, testset, tmp_path):
    scored = run(Method("ours", matte=matte), testset, tmp_path / "out")
    assert [(one.dataset, one.clip) for one in scored] == [
        ("aim_motion", "0000"),
        ("aim_static", "0000"),
        ("aim_static", "0001"),
    ]
    for one in scored:
        folder = testset / one.dataset / one.clip
        com, pha, fgr = stack(folder / "com", 3), stack(folder / "pha", 1), stack(folder / "fgr", 3)
        state, alphas, colors = None, [], []
        for frame in com:
            foreground, alpha, state = matte(frame, state)
            alphas.append(alpha)
            colors.append(foreground)
        alpha, foreground = np.stack(alphas), np.stack(colors)
        expected = {
            "mad": metrics.mad(alpha, pha),
            "mse": metrics.mse(alpha, pha),
            "grad": metrics.gradient(alpha, pha),
            "conn": metrics.connectivity(alpha, pha),
            "dtssd": metrics.dtssd(alpha, pha),
            "mad_t": metrics.mad_in_band(alpha, pha),
            "fgr_mad": metrics.foreground_mad(foreground, fgr, pha),
            "fgr_mse": metrics.foreground_mse(foreground, fgr, pha),
        }
        assert list(one.scores) == list(scoring.METRICS)
        for name, values in expected.items():
            np.testing.assert_allclose(one.scores[name], values, rtol=2e-3, atol=1e-4, err_msg=name)


def test_what_was_predicted_scores_as_it_did_within_rounding(matte, testset, tmp_path):
    ours = run(Method("ours", matte=matte), testset, tmp_path / "a", save_predictions=tmp_path / "predictions")
    theirs = run(Method("theirs", predictions=tmp_path / "predictions" / "ours"), testset, tmp_path / "b")
    for one, other in zip(ours, theirs, strict=True):
        for name, values in one.scores.items():
            # Half a level of 255 moves MAD by 2 thousandths at most.
            np.testing.assert_allclose(other.scores[name], values, rtol=0.03, atol=0.25, err_msg=name)
        assert np.abs(np.subtract(one.scores["mad"], other.scores["mad"])).max() < 2
    assert any(one.scores["mse"] != other.scores["mse"] for one, other in zip(ours, theirs, strict=True))


def test_a_perfect_method_has_no_error(testset, tmp_path):
    for scored in run(Method("truth", predictions=testset), testset, tmp_path / "out"):
        assert all(set(values) == {0.0} for values in scored.scores.values())


def test_without_memory_every_frame_is_the_first(matte, testset, tmp_path):
    with_memory = run(Method("a", matte=matte), testset, tmp_path / "out")
    without = run(Method("b", matte=matte, remembers=False), testset, tmp_path / "out")
    for one, other in zip(with_memory, without, strict=True):
        assert one.scores["mad"][0] == pytest.approx(other.scores["mad"][0], rel=1e-3)
        assert one.scores["mad"][5] != pytest.approx(other.scores["mad"][5], rel=1e-3)


def test_high_resolution_is_scored_as_published(matte, testset, tmp_path):
    usual, high = (
        run(Method("ours", matte=matte), testset, tmp_path / name, high_resolution=name == "high")
        for name in ("usual", "high")
    )
    assert "conn" not in high[0].scores
    assert high[0].scores["grad"] != usual[0].scores["grad"]
    assert high[0].scores["mad"] == usual[0].scores["mad"]


def test_nothing_is_scored_twice_unless_a_file_has_changed(matte, testset, tmp_path):
    one, out = Method("ours", matte=matte), tmp_path / "out"

    def score() -> tuple[list[evaluate.Scored], list[int]]:
        told: list[int] = []
        return list(evaluate.evaluate(layout.find(testset), one, out, Settings(), told.append)), told

    first, told = score()
    assert told == [8, 3] * 3
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    again, told = score()
    assert told == [FRAMES] * 3  # all at once, for they are done
    assert [one.scores for one in again] == [one.scores for one in first]
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(testset / "aim_static" / "0001" / "pha" / "0000.png")
    changed, told = score()
    assert told == [FRAMES, FRAMES, 8, 3]
    assert changed[2].scores != first[2].scores
    assert sum(path.stat().st_mtime_ns != stamps[path] for path in stamps) == 1


def test_frames_go_in_the_order_of_their_numbers(testset, tmp_path):
    for kind in ("com", "pha", "fgr"):
        folder = testset / "aim_static" / "0000" / kind
        for path in folder.iterdir():
            path.rename(path.with_name(f"{int(path.stem) + 1}.png"))
    clip = next(clip for clip in layout.find(testset) if clip.label == "aim_static/0000")
    for frames in (clip.com, clip.pha, clip.fgr, layout.predicted(testset, clip)[0]):
        assert list(frames) == [str(number) for number in range(1, 12)]


def test_predictions_are_kept_where_they_are_asked_for(matte, testset, tmp_path):
    one, out, folder = Method("ours", matte=matte), tmp_path / "out", tmp_path / "predictions"

    def made(**settings) -> list[int]:
        """How many frames are predicted at a time; whole clips are those that were done."""
        told: list[int] = []
        list(evaluate.evaluate(layout.find(testset), one, out, Settings(**settings), told.append))
        return told

    assert made() == [8, 3] * 3
    assert made(save_predictions=folder) == [8, 3] * 3  # they are scored, but not there
    assert made(save_predictions=folder) == made() == [FRAMES] * 3
    (folder / "ours" / "aim_static" / "0000" / "fgr" / "0010.png").unlink()
    assert made() == [FRAMES] * 3
    assert made(save_predictions=folder) == [FRAMES, 8, 3, FRAMES]
    assert made(downsample_ratio=1.0) == [8, 3] * 3
    assert made(downsample_ratio=1.0, save_predictions=folder) == [8, 3] * 3  # those that are there have another ratio


def test_other_definitions_of_scores_are_scored_again(matte, testset, tmp_path, monkeypatch):
    for one in (Method("ours", matte=matte), Method("truth", predictions=testset)):
        before = evaluate._fingerprint(one, Settings())
        with monkeypatch.context() as patched:
            patched.setattr(scoring, "DEFINITIONS", scoring.DEFINITIONS + 1)
            assert evaluate._fingerprint(one, Settings()) != before


def test_numbers_that_are_not_finite_are_told_with_the_frame(matte, testset, tmp_path):
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), matte.variables["params"])
    broken = Method("broken", matte=replace(matte, variables={**matte.variables, "params": params}))
    with pytest.raises(InputError, match=r"^broken predicts .* not finite in frame 0000 of aim_motion/0000: "):
        run(broken, testset, tmp_path / "out", save_predictions=tmp_path / "predictions")
    assert not list(tmp_path.rglob("out/**/*.json"))
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, float("nan")])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(InputError, match=f"^a down-sampling ratio of {ratio:g}: expected more than 0, and at most 1$"):
        Settings(ratio)
