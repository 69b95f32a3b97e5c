"""Test sets with truth on some frames: networks see all of them, and are scored where it is known."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout
from rvm_jax.evaluation.methods import Method
from tests.rvm_jax.evaluation.testsets import FRAMES, run, write_clip

APART = [2, 9]
"""One of each part that is predicted at once."""


@pytest.fixture
def testset(tmp_path):
    write_clip(tmp_path / "whole" / "real" / "0000", 0)
    return shutil.copytree(tmp_path / "whole", tmp_path / "partial")


def keep(testset, numbers):
    """Leave the truth of these frames alone."""
    for kind in ("pha", "fgr"):
        for path in (testset / "real" / "0000" / kind).iterdir():
            if int(path.stem) not in numbers:
                path.unlink()


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("numbers", [APART, [4, 5, 6]])
def test_a_network_sees_all_frames_and_is_scored_where_truth_is(matte, testset, tmp_path, numbers, remembers):
    keep(testset, numbers)
    one = Method("ours", matte=matte, remembers=remembers)
    (whole,) = run(one, tmp_path / "whole", tmp_path / "a")
    (partial,) = run(one, testset, tmp_path / "b", save_predictions=tmp_path / "saved")
    assert list(partial.numbers) == numbers
    assert whole.scores.keys() - partial.scores.keys() == ({"dtssd"} if numbers == APART else set())
    for name, values in partial.scores.items():
        expected = np.array(whole.scores[name])[numbers]
        if name == "dtssd":
            expected[0] = 0  # as of every first frame
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    saved = tmp_path / "saved" / "ours" / "real" / "0000" / "pha"
    assert len(list(saved.iterdir())) == FRAMES
    (saved / "0003.png").unlink()  # which has no truth
    run(one, testset, tmp_path / "b", save_predictions=tmp_path / "saved")
    assert len(list(saved.iterdir())) == FRAMES


@pytest.mark.parametrize(("known", "gaps"), [([2, 3], False), ([4], False), ([2, 4], True), ([0, 1, 4], True)])
def test_one_frame_without_truth_is_a_gap(known, gaps):
    com, pha = ({f"{number}": Path(f"{number}.png") for number in numbers} for numbers in (range(5), known))
    assert layout.EvaluationClip("real", "0000", com, pha, {}).has_gaps == gaps


def test_predictions_are_wanted_where_truth_is_and_allowed_where_frames_are(testset, tmp_path):
    keep(testset, APART)
    for predictions in (testset, tmp_path / "whole"):
        (scored,) = run(Method("truth", predictions=predictions), testset, tmp_path / "out")
        assert scored.scores["mad"] == [0, 0]
    theirs = tmp_path / "whole" / "real" / "0000" / "pha"
    (theirs / "0010.png").rename(theirs / "0011.png")
    with pytest.raises(InputError, match=r"pha has 11 frames and the truth of real/0000 2: 1 too many \(0011\)"):
        run(Method("truth", predictions=tmp_path / "whole"), testset, tmp_path / "out")
    (theirs / "0009.png").unlink()
    with pytest.raises(InputError, match=r"1 missing \(0009\), 1 too many"):
        run(Method("truth", predictions=tmp_path / "whole"), testset, tmp_path / "out")


def test_truth_of_frames_that_are_not_there_is_refused(testset):
    truth = testset / "real" / "0000" / "pha"
    (truth / "0003.png").rename(truth / "frame00004.png")
    with pytest.raises(InputError, match=r"com has 11 frames and .*pha 11: 1 missing \(frame00004\); expected equal"):
        layout.find(testset)


def test_the_command_tells_how_many_frames_have_truth(testset, tmp_path, capsys):
    keep(testset, APART)
    arguments = ["evaluate", str(testset), f"truth={testset}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    title = "real, 48×32, 1 clip, truth on 2 of 11 frames, so no dtSSD\n"
    for told in (capsys.readouterr().out, (tmp_path / "out" / "results.md").read_text()):
        assert title in told
        assert told.count("dtSSD") == 1
    with (tmp_path / "out" / "results.csv").open() as file:
        assert [row["dtssd"] for row in csv.DictReader(file)] == [""]
    keep(testset, [2])
    assert main(arguments) == 0
    assert "real, 48×32, 1 clip, truth on 1 of 11 frames\n" in capsys.readouterr().out
