"""P3M-10k, in miniature."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders.p3m_10k import archive
from data_pipelines.builders.p3m_10k.p3m_10k_dataset_builder import Builder
from tests.data_pipelines import fake_free_archives as fake
from tests.data_pipelines.building import FromArchive, pixels


class P3m10kTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 2, "validation": 1, "test_p3m_500_p": 2, "test_p3m_500_np": 2}  # noqa: RUF012 - as TFDS has it

    archive = staticmethod(fake.p3m)


def test_portraits_come_with_estimated_foregrounds(tmp_path):
    fake.p3m(tmp_path)
    found = archive.find(tmp_path)
    assert found.errors == []
    assert [warning.partition("P3M-10k/")[2] for warning in found.warnings] == [
        "train/blurred_image has 3 portraits with alpha, but 9421 were published",
        "validation/P3M-500-P/blurred_image has 2 portraits with alpha, but 500 were published",
        "validation/P3M-500-NP/original_image has 2 portraits with alpha, but 500 were published",
    ]
    clip = found.splits["test_p3m_500_np"][1]
    assert clip.name == "p_00c9"
    (record,) = clip.encode()
    composite, alpha, _ = fake.person(201)
    np.testing.assert_array_equal(pixels(record["alpha"]), alpha)
    assert fake.color_error(pixels(record["foreground"]), 201) < 0.6 * fake.color_error(composite, 201)


@pytest.mark.parametrize("part", ["train/mask", "validation/P3M-500-NP"])
def test_parts_that_are_missing(tmp_path, part):
    folder = fake.p3m(tmp_path)
    shutil.rmtree(folder / part)
    (error,) = archive.find(tmp_path).errors
    assert error.startswith(f"{folder / part}")
    assert f"is not there: ask for P3M-10k at {archive.PAGE}, and extract it to {tmp_path}" in error


def test_portraits_without_alpha_and_alphas_without_portrait(tmp_path):
    folder = fake.p3m(tmp_path)
    (folder / "train/mask/p_0001.png").rename(folder / "train/mask/p_0009.png")
    assert archive.find(tmp_path).errors == [
        f"1 files have no partner in {folder}/train/mask: {folder}/train/blurred_image/p_0001.jpg",
        f"1 files have no partner in {folder}/train/blurred_image: {folder}/train/mask/p_0009.png",
    ]
