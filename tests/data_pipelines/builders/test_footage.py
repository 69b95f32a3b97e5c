"""The user's own footage in the plain layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import FolderConfig
from data_pipelines.builders.footage import archive
from data_pipelines.builders.footage.footage_dataset_builder import Builder
from data_pipelines.pipelines import datasets
from data_pipelines.tools import prepare
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives
from tests.data_pipelines.building import FromArchive, build, numbers, opened, pixels


def write_archive(folder: Path) -> Path:
    """A folder of pictures, two videos, one picture, and pairs of unlike kinds."""
    fake_archives.write_pair(folder, "alice", [1, 2, 3])
    fake_archives.write_pair(folder, "bob.mp4", range(10, 15), codec="hevc")
    fake_archives.write_video(folder / "fgr" / "carol.mov", map(fake_archives.stamped, range(20, 24)))
    for number in range(20, 24):
        fake_archives.write_picture(folder / "pha" / "carol" / f"{number}.png", fake_archives.stamped_alpha(number))
    fake_archives.write_picture(folder / "fgr" / "dora.jpg", fake_archives.stamped(30))
    fake_archives.write_picture(folder / "pha" / "dora.png", fake_archives.stamped_alpha(30))
    return folder


EXPECTED = {"alice": [1, 2, 3], "bob": list(range(10, 15)), "carol": list(range(20, 24)), "dora": [30]}


@pytest.fixture(scope="session")
def footage(tmp_path_factory) -> Path:
    return write_archive(tmp_path_factory.mktemp("footage"))


class FootageTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 10, "validation": 3}  # noqa: RUF012 - as TFDS declares it

    @classmethod
    def archive(cls, folder):
        cls.BUILDER_CONFIG_NAMES_TO_TEST = [FolderConfig(name="mine", folder=write_archive(folder))]


def test_every_frame_is_there_and_can_be_read_without_the_folder(footage, tmp_path):
    folder = shutil.copytree(footage, tmp_path / "footage")
    builder = Builder(config=FolderConfig(name="mine", folder=folder), data_dir=tmp_path / "data")
    build(builder, tmp_path / "nothing")
    jpeg = (folder / "fgr" / "dora.jpg").read_bytes()
    shutil.rmtree(folder)
    train, validation = opened(builder, "train"), opened(builder, "validation")
    for feature in ("foreground", "alpha"):
        shown = numbers(validation, feature) | numbers(train, feature)
        assert shown == {f"footage/mine/{name}": frames for name, frames in EXPECTED.items()}
    assert validation.names == ["footage/mine/alice"]
    assert train.read(train.frames - 1)["foreground"] == jpeg
    np.testing.assert_array_equal(pixels(train.read(train.frames - 1)["alpha"]), fake_archives.stamped_alpha(30))
    for again in (
        tfds.builder("footage/mine", data_dir=tmp_path / "data"),
        tfds.builder_from_directory(tmp_path / "data" / "footage" / "mine" / "1.0.0"),
        Builder(config=FolderConfig(name="mine"), data_dir=tmp_path / "data"),
    ):
        assert again.info.metadata["clips"]["train"]["name"] == ["bob", "carol", "dora"]
        assert len(again.as_data_source("train")) == 10


def test_each_name_has_a_dataset_of_its_own(footage, tmp_path):
    fake_archives.write_pair(tmp_path / "other", "zoe", [40])
    for name, folder in (("mine", footage), ("other", tmp_path / "other")):
        build(Builder(config=FolderConfig(name=name, folder=folder), data_dir=tmp_path / "data"))
    other = opened(Builder(config=FolderConfig(name="other"), data_dir=tmp_path / "data"), "train")
    assert numbers(other, "foreground") == {"footage/other/zoe": [40]}


@pytest.mark.parametrize(
    ("count", "trained_on", "held_out"), [(1, 1, [0]), (2, 2, [0]), (3, 2, [0]), (20, 19, [0]), (21, 19, [0, 20])]
)
def test_every_twentieth_clip_is_for_validation(tmp_path, count, trained_on, held_out):
    """Of one or two clips, the first is for both, which is told."""
    for half in ("fgr", "pha"):
        (tmp_path / half).mkdir()
        for number in range(count):
            (tmp_path / half / f"{number:02d}.png").touch()
    found = archive.find(tmp_path)
    assert found.errors == []
    assert [clip.name for clip in found.splits["validation"]] == [f"{number:02d}" for number in held_out]
    assert len(found.splits["train"]) == trained_on
    assert bool(found.warnings) == (count < 3)


def test_what_does_not_fit_is_named(footage, tmp_path):
    folder = shutil.copytree(footage, tmp_path / "footage")
    fgr, pha = folder / "fgr", folder / "pha"
    (pha / "dora.png").unlink()
    (fgr / "erik.png").touch()
    (pha / "carol" / "22.png").unlink()
    (fgr / "backup.txt").touch()  # nothing of ours
    errors = archive.find(folder).errors
    assert errors == [
        f"{fgr} has clips without the other half in {pha}: dora, erik; get what is missing, or remove these",
        f"{fgr / 'carol.mov'} has 4 frames and {pha / 'carol'} has 3: expected equally many; get both again",
    ]
    (fgr / "alice.mp4").touch()
    assert archive.find(folder).errors == [
        f"{fgr / 'alice'} and {fgr / 'alice.mp4'} are two clips of one name: remove or rename one"
    ]


def test_the_layout_is_told_where_it_is_missing(tmp_path):
    for half in ("fgr", "pha"):
        [error] = archive.find(tmp_path).errors
        assert error.startswith(f"{tmp_path} has no folder {half}: expected fgr with foregrounds and pha with alphas")
        (tmp_path / half).mkdir()
    assert archive.find(tmp_path).errors == [
        f"{tmp_path / 'fgr'} has no clips: expected videos, pictures, or folders of these "
        "(.avi, .bmp, .jpeg, .jpg, .m4v, .mkv, .mov, .mp4, .png, .webm, .webp)"
    ]
    for half in ("fgr", "pha"):
        (tmp_path / half / "a.tif").touch()
    [error] = archive.find(tmp_path).errors
    assert error.startswith(f"{tmp_path / 'fgr'} has no clips, only .tif files: expected videos, pictures")
    with pytest.raises(InputError, match=r"footage/mine/1\.0\.0 is not prepared: say from which folder"):
        build(Builder(config=FolderConfig(name="mine"), data_dir=tmp_path / "data"))


def test_backgrounds_become_a_dataset_beside_it(footage, tmp_path):
    folder = shutil.copytree(footage, tmp_path / "footage")
    for number in range(3):
        fake_archives.write_picture(folder / "backgrounds" / f"{number}.png", fake_archives.stamped(number))
    lines = [step() for step in prepare.footage_steps(folder, "mine", tmp_path / "data").values()]
    assert lines[0].startswith("footage/mine: train 3 (10 frames), validation 1 (3 frames), ")
    assert lines[1].startswith("background_images/mine: train 2 (2 frames), validation 1 (1 frames), ")
    data = datasets.open_named(["footage/mine", "background_images/mine"], "train", tmp_path / "data")
    assert data.foregrounds.names == ["footage/mine/bob", "footage/mine/carol", "footage/mine/dora"]
    assert data.background_images.names == ["background_images/mine/1.png", "background_images/mine/2.png"]


def test_a_foreground_and_its_alpha_have_one_size(tmp_path):
    fake_archives.write_picture(tmp_path / "fgr" / "a.png", fake_archives.stamped(0))
    fake_archives.write_picture(tmp_path / "pha" / "a.png", fake_archives.stamped_alpha(0)[:-2])
    with pytest.raises(InputError, match=r"fgr/a\.png and .*pha/a\.png: alpha of frame 0 has 128x94 pixels where"):
        build(Builder(config=FolderConfig(name="mine", folder=tmp_path), data_dir=tmp_path / "data"))
