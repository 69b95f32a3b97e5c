"""Test sets: the same from the same seed, composited exactly, in the layout that evaluation reads."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.tools import testset as testsets
from data_pipelines.tools.testset import Settings
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout, scoreboard

BACKGROUNDS = ("synthetic/tiny_background_images", "synthetic/tiny_background_clips")
SETTINGS = Settings(
    ("synthetic/tiny_matting_clips",), BACKGROUNDS, split="train", height=36, width=64, frames=5, clips=2
)


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stack(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path), np.float32) for path in sorted(folder.iterdir())])


def test_clips_are_composites_of_their_parts(prepared, tmp_path):
    assert testsets.build(SETTINGS, prepared, tmp_path / "set") == 4
    clips = layout.find(tmp_path / "set")
    assert [(clip.dataset, clip.name) for clip in clips] == [
        (f"synthetic_tiny_matting_clips_{kind}", name) for kind in ("motion", "static") for name in ("0000", "0001")
    ]
    for clip in clips:
        folder = tmp_path / "set" / clip.dataset / clip.name
        com, pha, fgr, bgr = (stack(folder / kind) for kind in testsets.LAYERS)
        assert com.shape == (5, 36, 64, 3)
        share = pha[..., None] / 255
        assert np.abs(com - (fgr * share + bgr * (1 - share))).max() <= 0.5001
        still = (bgr == bgr[:1]).all()
        assert still == clip.dataset.endswith("static")
        assert not (pha == pha[:1]).all()  # people move
        assert 0.02 < share.mean() < 0.9


OF_IMAGE_MATTE = ["train", "validation", "test_d646", "test_aim"]


@pytest.mark.parametrize(
    ("splits", "wanted", "expected"),
    [
        (["train", "validation", "test"], None, "test"),
        (["train", "validation"], None, "validation"),
        (OF_IMAGE_MATTE, "test_aim", "test_aim"),
        (["train", "validation"], "train", "train"),
    ],
)
def test_the_part_that_people_are_of(splits, wanted, expected):
    assert testsets.part("some", splits, wanted) == expected


@pytest.mark.parametrize(
    ("splits", "wanted", "message"),
    [
        (OF_IMAGE_MATTE, None, "has no part 'test': give --split test_d646, test_aim, validation or train"),
        (OF_IMAGE_MATTE, "test", "has no part 'test': give --split test_d646, test_aim, validation or train"),
        (["train", "validation"], "test", "has no part 'test': give --split validation or train"),
        (["train"], None, "has no part 'test': give --split train"),
    ],
)
def test_a_part_that_is_not_there_is_refused(splits, wanted, message):
    with pytest.raises(InputError, match=f"^image_matte {message}$"):
        testsets.part("image_matte", splits, wanted)


@pytest.mark.parametrize(
    ("dataset", "split", "size"),
    [
        ("image_matte", "test_d646", (512, 512)),
        ("image_matte", "test_aim", (2048, 2048)),
        ("video_matte_240k/sd", "test", (288, 512)),
        ("video_matte_240k/hd", "test", (1080, 1920)),
    ],
)
def test_published_figures_are_found_by_the_names_of_folders(dataset, split, size):
    for kind in ("", "_static", "_motion"):
        rows = dict(scoreboard.published(testsets.title(dataset, split) + kind, size))
        assert "RVM (published)" in rows
    assert not scoreboard.published(testsets.title("synthetic/matting_clips", "validation"), size)


def test_pictures_of_people_move_slowly(prepared, tmp_path):
    settings = Settings(
        ("synthetic/tiny_matting_images",), BACKGROUNDS[:1], split="train", height=36, width=64, frames=6
    )
    testsets.build(settings, prepared, tmp_path / "set")
    (dataset,) = (path for path in (tmp_path / "set").iterdir() if path.is_dir())
    assert dataset.name == "synthetic_tiny_matting_images_static"
    moved = [np.abs(np.diff(stack(clip / "pha"), axis=0)).mean((1, 2)) for clip in sorted(dataset.iterdir())]
    assert all(len(each) == 5 and each.sum() > 0 for each in moved)


def test_another_time_gives_the_same_and_another_seed_does_not(prepared, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        testsets.build(Settings(**{**vars(SETTINGS), "seed": seed}), prepared, tmp_path / name)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    one, other = digest(tmp_path / "one"), digest(tmp_path / "other")
    assert one.keys() == other.keys()
    changed = {name for name in one if one[name] != other[name]}
    assert any("/bgr/" in name for name in changed)
    assert not any("/fgr/" in name for name in changed)  # a clip's number says which people are in it


def test_an_interrupted_set_is_completed(prepared, tmp_path, monkeypatch):
    out = tmp_path / "set"
    testsets.build(SETTINGS, prepared, tmp_path / "whole")
    save, count = Image.Image.save, 0

    def break_down(*arguments, **options):
        nonlocal count
        count += 1
        if count > 30:  # in the middle of the second clip
            raise KeyboardInterrupt
        save(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", break_down)
        with pytest.raises(KeyboardInterrupt):
            testsets.build(SETTINGS, prepared, out)
    assert sum(len(list(dataset.iterdir())) for dataset in out.iterdir() if dataset.is_dir()) == 1
    testsets.build(SETTINGS, prepared, out)
    assert digest(out) == digest(tmp_path / "whole")


def test_other_settings_or_things_in_the_folder_are_refused(prepared, tmp_path):
    testsets.build(SETTINGS, prepared, tmp_path / "set")
    with pytest.raises(InputError, match=r"holds a test set with frames 5 \(now 6\)"):
        testsets.build(Settings(**{**vars(SETTINGS), "frames": 6}), prepared, tmp_path / "set")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(InputError, match="full is not empty and no test set"):
        testsets.build(SETTINGS, prepared, tmp_path / "full")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synthetic/tiny_matting_clips"], "rvm: there is no background dataset among"),
        (["synthetic/tiny_background_clips"], "rvm: there is no matting dataset among"),
        (["synthetic/tiny_segmentation_clips"], "rvm: segmentation datasets are not composited"),
        (["synthetic/none"], "rvm: synthetic/none is not prepared"),
        (["synthetic/tiny_matting_clips", "--size", "8x8"], "rvm: --size 8x8: expected WIDTHxHEIGHT of 16 pixels"),
        (["synthetic/tiny_matting_clips", "--frames", "0"], "rvm: --frames 0 --clips 0: expected a frame or more"),
        (
            ["synthetic/tiny_matting_clips", BACKGROUNDS[0], "--split", "test"],
            "rvm: synthetic/tiny_matting_clips has no part 'test': give --split validation or train\n",
        ),
    ],
    ids=str,
)
def test_what_the_user_has_to_mend(prepared, tmp_path, capsys, arguments, message):
    assert main(["data", "testset", *arguments, "--data-dir", str(prepared), "--out", str(tmp_path / "set")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_the_command(prepared, tmp_path, capsys):
    names = ["synthetic/tiny_matting_clips", *BACKGROUNDS]
    options = ["--size", "64x36", "--frames", "3", "--clips", "1", "--out", str(tmp_path / "set")]
    assert main(["data", "testset", *names, "--data-dir", str(prepared), *options]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/set: 2 clips of 64×36\n"
    assert all(len(clip.com) == 3 for clip in layout.find(tmp_path / "set"))
