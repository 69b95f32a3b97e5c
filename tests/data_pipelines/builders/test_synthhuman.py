"""SynthHuman, in miniature: zip files that stay packed, and foregrounds that are estimated."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders import catalog
from data_pipelines.builders.synthhuman import archive
from data_pipelines.builders.synthhuman.synthhuman_dataset_builder import Builder
from data_pipelines.records import licences
from data_pipelines.records.clips import open_clips
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_free_archives as fake
from tests.data_pipelines.building import FromArchive, build, pixels


@pytest.fixture
def manual(tmp_path) -> Path:
    fake.synthhuman(tmp_path / "manual", 0, 2)
    fake.synthhuman(tmp_path / "manual", 1, 2)
    return tmp_path / "manual"


class SynthhumanTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [tfds.core.BuilderConfig(name="3")]  # noqa: RUF012 - as TFDS declares it
    SPLITS = {"train": 2, "validation": 1}  # noqa: RUF012

    @classmethod
    def archive(cls, folder: Path) -> None:
        fake.synthhuman(folder, 3, 3)


def test_a_share_is_a_dataset(manual, tmp_path):
    builder = catalog.builder("synthhuman/0-1", tmp_path / "data")
    build(builder, manual)
    train = open_clips(["synthhuman/0-1"], "train", tmp_path / "data")
    assert list(train.names) == [f"synthhuman/0-1/{number:07d}" for number in (1, 5000, 5001)]
    assert len(open_clips(["synthhuman/0-1"], "validation", tmp_path / "data")) == 1
    composite, alpha, _ = fake.person(5001)
    record = train.read(2)
    np.testing.assert_array_equal(pixels(record["alpha"]), alpha)
    assert fake.color_error(pixels(record["foreground"]), 5001) < 0.6 * fake.color_error(composite, 5001)
    assert licences.read(Path(builder.data_path)).name == "CDLA-Permissive-2.0"


def test_parts_that_are_not_there(manual):
    (error,) = archive.find(manual, "0-3").errors
    assert error.startswith(f"{manual / 'synthhuman'} lacks 2 of 4 zip files: SynthHuman_0002.zip, SynthHuman_0003.zip")
    (error,) = archive.find(manual).errors
    assert "lacks 58 of 60" in error


@pytest.mark.parametrize("config", ["60", "3-1", "0-60", "a", "-1"])
def test_shares_that_are_none(config):
    with pytest.raises(InputError, match=f"no dataset synthhuman/{config}: .* of 0 to 59, such as synthhuman/0-5"):
        catalog.named([f"synthhuman/{config}"])


def test_a_zip_file_that_is_cut_short(manual):
    path = manual / "synthhuman" / "SynthHuman_0001.zip"
    path.write_bytes(path.read_bytes()[:-30])
    (error,) = archive.find(manual, "0-1").errors
    assert error.startswith(f"{path} is cut short or no zip file")


def test_a_zip_file_of_other_things(manual):
    path = manual / "synthhuman" / "SynthHuman_0001.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "")
    (error,) = archive.find(manual, "1").errors
    assert error.startswith(f"{path} holds no rgb_NUMBER.png")


def test_a_person_without_alpha(manual):
    path = fake.synthhuman(manual, 1, 2, without="alpha_0005001.png")
    found = archive.find(manual, "1")
    assert found.errors == [f"1 pictures have no partner: {path}/rgb_0005001.png; get {path} again"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", "rgb_0005000.png cannot be read as a picture"),
        (
            fake.encoded(np.zeros((8, 8, 3), np.uint8), "PNG"),
            "has 8x8 pixels, but its alpha .*alpha_0005000.png has 48x32",
        ),
        (fake.encoded(np.zeros((8, 8), np.uint8), "PNG"), "rgb_0005000.png is gray: a foreground must be RGB"),
    ],
)
def test_pictures_that_are_unsound_are_named(manual, tmp_path, content, message):
    path = fake.synthhuman(manual, 1, 1, without="rgb_0005000.png")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("rgb_0005000.png", content)
    with pytest.raises(InputError, match=f"{path}/.*{message}"):
        build(catalog.builder("synthhuman/1", tmp_path / "data"), manual)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


def test_a_wrong_byte_in_a_zip_file(manual):
    path = manual / "synthhuman" / "SynthHuman_0001.zip"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    clip = archive.find(manual, "1").splits["validation"][0]
    with pytest.raises(
        InputError, match=r"rgb_0005000.png cannot be read, or the archive is damaged .* get .*0001.zip"
    ):
        list(clip.encode())
