"""Records of people with alpha: the colours that are stored, and their size."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.archives import composites
from data_pipelines.archives.composites import composite_records
from tests.data_pipelines.building import pixels


def write(folder, level):
    Image.new("RGB", (40, 30), (level, level, level)).save(folder / "rgb.png")
    Image.new("L", (40, 30), 255).save(folder / "alpha.png")
    return folder / "rgb.png", folder / "alpha.png"


@pytest.mark.parametrize("level", [1, 61, 123, 255])
def test_where_alpha_is_1_the_foreground_is_the_picture(tmp_path, level):
    (record,) = composite_records(*write(tmp_path, level), short_side=30)
    np.testing.assert_array_equal(pixels(record["foreground"]), np.full((30, 40, 3), level, np.uint8))
    np.testing.assert_array_equal(pixels(record["alpha"]), np.full((30, 40), 255, np.uint8))


def test_both_are_shrunk(tmp_path):
    (record,) = composite_records(*write(tmp_path, 100), short_side=15)
    assert [pixels(record[name]).shape for name in ("foreground", "alpha")] == [(15, 20, 3), (15, 20)]


def test_colours_are_rounded(tmp_path, monkeypatch):
    monkeypatch.setattr(composites, "estimate_foreground", lambda image, alpha: np.full_like(image, 100.7 / 255))
    (record,) = composite_records(*write(tmp_path, 100), short_side=30)
    assert set(pixels(record["foreground"]).ravel()) == {101}
