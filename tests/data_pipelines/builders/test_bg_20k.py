"""BG-20k, in miniature."""

import shutil

import tensorflow_datasets as tfds

from data_pipelines.builders.bg_20k import archive
from data_pipelines.builders.bg_20k.bg_20k_dataset_builder import Builder
from tests.data_pipelines import fake_free_archives as fake
from tests.data_pipelines.building import FromArchive


class Bg20kTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 3, "test": 2}  # noqa: RUF012 - as TFDS declares it

    archive = staticmethod(fake.bg_20k)


def test_pictures_keep_their_bytes(tmp_path):
    folder = fake.bg_20k(tmp_path)
    found = archive.find(tmp_path)
    assert found.errors == []
    assert found.warnings[0] == f"{folder / 'train'} has 3 pictures, but 15000 were published"
    assert [clip.name for clip in found.splits["test"]] == ["h_0000.jpg", "h_0001.jpg"]
    (record,) = found.splits["test"][1].encode()
    assert record["image"] == (folder / "testval" / "h_0001.jpg").read_bytes()


def test_folders_that_are_missing_or_empty(tmp_path):
    folder = fake.bg_20k(tmp_path)
    shutil.rmtree(folder / "testval")
    for path in (folder / "train").iterdir():
        path.rename(path.with_suffix(".gif"))
    empty, missing = archive.find(tmp_path).errors
    assert empty.startswith(f"{folder / 'train'} has no pictures")
    assert (
        missing == f"{folder / 'testval'} is not there: ask for BG-20k at {archive.PAGE}, and extract it to {tmp_path}"
    )
