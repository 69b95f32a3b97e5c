"""PASS, in miniature: tar files that stay packed."""

from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders import catalog
from data_pipelines.builders.pass_backgrounds import archive
from data_pipelines.builders.pass_backgrounds.pass_backgrounds_dataset_builder import Builder
from data_pipelines.records.clips import open_clips
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_free_archives as fake
from tests.data_pipelines.building import FromArchive, build, pixels


class PassBackgroundsTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [tfds.core.BuilderConfig(name="0-1")]  # noqa: RUF012 - as TFDS declares it
    SPLITS = {"train": 4, "validation": 1}  # noqa: RUF012

    @classmethod
    def archive(cls, folder: Path) -> None:
        fake.pass_tar(folder, 0, 3)
        fake.pass_tar(folder, 1, 2)


def test_pictures_keep_their_bytes_and_large_ones_are_shrunk(tmp_path, monkeypatch):
    fake.pass_tar(tmp_path, 2, 3)
    build(catalog.builder("pass_backgrounds/2", tmp_path / "data"), tmp_path)
    train = open_clips(["pass_backgrounds/2"], "train", tmp_path / "data")
    assert list(train.names) == ["pass_backgrounds/2/20001", "pass_backgrounds/2/20002"]
    assert train.read(1)["image"] == fake.photo(202)
    monkeypatch.setattr(archive, "SHORT_SIDE", 16)
    clip = archive.find(tmp_path, "2").splits["train"][0]
    assert pixels(next(clip.encode())["image"]).shape == (16, 24, 3)


def test_tar_files_that_are_missing_cut_short_or_of_other_things(tmp_path):
    path = fake.pass_tar(tmp_path, 0, 3)
    (error,) = archive.find(tmp_path, "0-2").errors
    assert error.startswith(f"{tmp_path / 'pass'} lacks 2 of 3 tar files: PASS.1.tar, PASS.2.tar")
    path.write_bytes(path.read_bytes()[:3000])
    (error,) = archive.find(tmp_path, "0").errors
    assert error.startswith(f"{path} is cut short or no tar file")
    path.write_bytes(bytes(10240))
    (error,) = archive.find(tmp_path, "0").errors
    assert error.startswith(f"{path} holds no pictures")


def test_a_picture_that_is_damaged_is_named(tmp_path):
    path = fake.pass_tar(tmp_path, 0, 2)
    content = path.read_bytes()
    at = content.index(b"\xff\xd8")
    path.write_bytes(content[:at] + b"no picture" + content[at + 10 :])
    with pytest.raises(InputError, match=f"{path}/PASS_dataset/0/00000.jpg cannot be read as a picture"):
        build(catalog.builder("pass_backgrounds/0", tmp_path / "data"), tmp_path)


def test_a_member_that_is_cut_off_is_named(tmp_path):
    path = fake.pass_tar(tmp_path, 0, 2)
    clip = archive.find(tmp_path, "0").splits["train"][0]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=f"00001.jpg cannot be read, or the archive is damaged .* get {path} again"):
        list(clip.encode())
