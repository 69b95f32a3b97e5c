"""Supervisely Person, in miniature."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_pipelines.builders.supervisely_person import archive
from data_pipelines.builders.supervisely_person.supervisely_person_dataset_builder import Builder
from rvm_jax.errors import InputError
from tests.data_pipelines.building import OfArrayRecords
from tests.data_pipelines.fake_archives import tag_picture
from tests.data_pipelines.fake_still_archives import built, decoded, save

HEIGHT, WIDTH = 10, 16
BLOCK = np.array([[1, 0, 1], [1, 1, 1]], np.uint8)


def bitmap(mask: np.ndarray, origin: tuple[int, int], form: str, name: str = "person_bmp") -> dict[str, Any]:
    """An object as Supervisely writes it: the PNG has a transparent colour, an alpha channel, or is gray."""
    png = io.BytesIO()
    image = Image.fromarray(mask)
    if form == "palette":
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(png, "PNG", transparency=0)
    elif form == "alpha":
        Image.merge("RGBA", [Image.new("L", image.size, 255)] * 3 + [Image.fromarray(mask * 255)]).save(png, "PNG")
    else:
        Image.fromarray(mask * 255).save(png, "PNG")
    data = base64.b64encode(zlib.compress(png.getvalue())).decode()
    return {"classTitle": name, "geometryType": "bitmap", "bitmap": {"data": data, "origin": list(origin)}}


def polygon(
    exterior: list[list[float]], interior: list[list[list[float]]], name: str = "person_poly"
) -> dict[str, Any]:
    points = {"exterior": exterior, "interior": interior}
    return {"classTitle": name, "geometryType": "polygon", "points": points, "bitmap": None}


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def export(manual: Path, name: str, objects: Any, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A picture and its annotation, which is returned; `name` is DATASET/PICTURE."""
    dataset = manual / "supervisely_person" / Path(name).parent
    save(dataset / "img" / Path(name).name, "RGB", size=(WIDTH, HEIGHT))
    annotation = dataset / "ann" / f"{Path(name).name}.json"
    annotation.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_text(json.dumps({"size": {"height": size[0], "width": size[1]}, "objects": objects, "tags": []}))
    return annotation


def prepare(manual: Path, stem: str, picture: str = "jpg", mask: str = "png") -> tuple[Path, Path]:
    folder = manual / "supervisely_person"
    seed = sum(map(ord, stem))
    image = save(folder / "img" / f"{stem}.{picture}", "RGB", seed, (WIDTH, HEIGHT))
    return image, save(folder / "seg" / f"{stem}.{mask}", "L", seed, (WIDTH, HEIGHT))


def clips(manual: Path) -> dict[str, Any]:
    found = archive.find(manual)
    assert found.errors == []
    return {clip.name: clip for split in found.splits.values() for clip in split}


def mask_of(clip: Any) -> np.ndarray:
    (record,) = clip.encode()
    mask = decoded(record["mask"])
    assert set(np.unique(mask)) <= {0, 255}
    return mask == 255


@pytest.fixture
def exported(tmp_path):
    export(tmp_path, "ds1/a.png", [bitmap(BLOCK, (3, 5), "palette")])
    export(tmp_path, "ds1/b.jpg", [])
    return tmp_path


@pytest.fixture
def prepared(tmp_path):
    for stem in ("a", "b"):
        prepare(tmp_path, stem)
    return tmp_path


@pytest.mark.parametrize("form", ["palette", "alpha", "gray"])
def test_bitmaps(exported, form):
    export(exported, "ds1/a.png", [bitmap(BLOCK, (3, 5), form)])
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:7, 3:6] = BLOCK
    np.testing.assert_array_equal(mask_of(clips(exported)["ds1/a.png"]), expected)


def test_polygons_have_holes_of_their_own(exported):
    """The hole of the second polygon does not reach into the bitmap and the first polygon."""
    objects = [
        polygon(rectangle(0, 0, 4, 4), []),
        polygon(rectangle(2, 2, 12, 8), [rectangle(4, 4, 10, 6)]),
        bitmap(BLOCK[1:], (7, 5), "palette"),
    ]
    export(exported, "ds1/a.png", objects)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[2:9, 2:13] = True
    expected[4:7, 4:11] = False
    expected[:5, :5] = True
    expected[5, 7:10] = True
    np.testing.assert_array_equal(mask_of(clips(exported)["ds1/a.png"]), expected)


def test_other_classes_are_left_out(exported):
    objects = [bitmap(BLOCK, (0, 0), "palette", "neutral"), polygon(rectangle(8, 8, 9, 9), [])]
    export(exported, "ds2/c.jpg", objects)
    mask = mask_of(clips(exported)["ds2/c.jpg"])
    assert mask.sum() == 4
    assert mask[8:, 8:10].all()
    warnings = archive.find(exported).warnings
    assert "what is of class 'neutral' in 1 annotations does not go into the masks" in warnings


@pytest.mark.parametrize("mask", ["png", "jpg"])
def test_prepared_masks_are_cut_at_half(prepared, mask):
    picture, source = prepare(prepared, "c", mask=mask)
    clip = clips(prepared)["c"]
    expected = np.asarray(Image.open(source)) >= 128
    assert 0.3 < expected.mean() < 0.7
    np.testing.assert_array_equal(mask_of(clip), expected)
    (record,) = clip.encode()
    assert record["image"] == picture.read_bytes()


def test_masks_lie_on_the_pixels_as_they_are_stored(prepared):
    """Whatever the orientation tags say; training ignores them too."""
    picture, source = prepare(prepared, "c")
    for path in (picture, source):
        tag_picture(path, 6)
    clip = clips(prepared)["c"]
    np.testing.assert_array_equal(mask_of(clip), np.asarray(Image.open(source)) >= 128)
    (record,) = clip.encode()
    assert record["image"] == picture.read_bytes()


def test_names_that_are_not_utf_8(prepared):
    """Such a name is in no other message, which could not be printed."""
    _, mask = prepare(prepared, "caf\udce9")
    mask.unlink()
    folder = prepared / "supervisely_person"
    assert archive.find(prepared).errors == [f"{folder}/img/caf\\xe9.jpg has a name that is not UTF-8: rename it"]


def test_every_50th_picture_is_held_out(tmp_path):
    for index in range(51):
        prepare(tmp_path, f"{index:03d}")
    found = archive.find(tmp_path)
    assert [clip.name for clip in found.splits["validation"]] == ["000", "050"]
    assert len(found.splits["train"]) == 49
    assert found.warnings == [f"{tmp_path / 'supervisely_person'} holds 51 pictures, but 5711 were published"]


def test_the_published_number_is_no_warning(prepared, monkeypatch):
    monkeypatch.setattr(archive, "PUBLISHED", 2)
    assert archive.find(prepared).warnings == []


def test_large_pictures_are_shrunk(prepared):
    picture, mask = prepare(prepared, "a")
    save(picture, "RGB", size=(2200, 2160))
    save(mask, "L", size=(2200, 2160))
    (record,) = clips(prepared)["a"].encode()
    assert decoded(record["image"]).shape == (1080, 1100, 3)
    assert decoded(record["mask"]).shape == (1080, 1100)
    assert set(np.unique(decoded(record["mask"]))) == {0, 255}


def test_missing_halves(prepared):
    folder = prepared / "supervisely_person"
    picture = save(folder / "img" / "c.jpg", "RGB")
    mask = save(folder / "seg" / "d.png", "L")
    errors = archive.find(prepared).errors
    assert f"1 files have no partner in {folder / 'seg'}: {picture}" in errors
    assert f"1 files have no partner in {folder / 'img'}: {mask}" in errors


def test_a_name_that_could_be_several_masks(prepared):
    prepare(prepared, "a", mask="jpg")
    (error,) = archive.find(prepared).errors
    assert error.startswith("a could be ")
    assert "seg/a.png" in error
    assert "seg/a.jpg" in error


def test_missing_annotations_and_pictures(exported):
    first = export(exported, "ds2/c.png", [])
    first.rename(first.with_name("d.png.json"))
    (error,) = archive.find(exported).errors
    assert error.startswith("2 files have no partner")
    assert "ds2/img/c.png" in error
    assert "ds2/ann/d.png.json" in error


def test_nothing_there(tmp_path):
    (error,) = archive.find(tmp_path).errors
    assert error.startswith(f"{tmp_path / 'supervisely_person'} holds 0 pictures of persons: expected img/ and seg/")


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read as JSON"), ("[]", "not in the format")])
def test_unusable_annotations(exported, text, message):
    annotation = exported / "supervisely_person/ds1/ann/a.png.json"
    annotation.write_text(text)
    (error,) = archive.find(exported).errors
    assert error.startswith(str(annotation))
    assert message in error


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (bitmap(BLOCK, (14, 0), "palette"), "holds a bitmap of 3x2 pixels at 14, 0, which is not within its picture"),
        (bitmap(BLOCK, (0, -1), "palette"), "at 0, -1, which is not within"),
        ({"classTitle": "person_bmp", "bitmap": {"data": "AAAA", "origin": [0, 0]}}, "holds a bitmap that is damaged"),
        ({"classTitle": "person_bmp", "bitmap": {"data": "AAA", "origin": [0, 0]}}, "holds a bitmap that is damaged"),
        ({"classTitle": "person_poly"}, "not in the format"),
        (polygon([[1, 2, 3]], []), "not in the format"),
        (polygon([], []), "not in the format"),
    ],
)
def test_unusable_objects(exported, item, message):
    annotation = export(exported, "ds1/a.png", [item])
    with pytest.raises(InputError, match=message) as raised:
        mask_of(clips(exported)["ds1/a.png"])
    assert str(raised.value).startswith(str(annotation))


def test_sizes_that_differ(exported):
    export(exported, "ds1/a.png", [], size=(WIDTH, HEIGHT))
    with pytest.raises(InputError, match=r"a.png has 16x10 pixels, but its mask in .*a.png.json has 10x16"):
        mask_of(clips(exported)["ds1/a.png"])


def test_masks_of_zeros_and_ones_are_refused(prepared):
    _, mask = prepare(prepared, "a")
    Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(mask)
    with pytest.raises(InputError, match=r"seg/a.png reaches 1 at most: expected 0 outside of persons and 255 inside"):
        mask_of(clips(prepared)["a"])


@pytest.mark.parametrize("form", ["prepared", "exported"])
def test_records_bit_for_bit(request, tmp_path, form):
    """What lies in the files of the dataset is what the clips are encoded to, in order."""
    manual = request.getfixturevalue(form)
    splits = archive.find(manual).splits
    expected = {split: [record for clip in clips for record in clip.encode()] for split, clips in splits.items()}
    assert built(Builder, manual, tmp_path / "data") == expected
    assert {split: len(records) for split, records in expected.items()} == {"train": 1, "validation": 1}


class TestBuilder(OfArrayRecords, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 1, "validation": 1}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _archive(self, prepared):
        type(self).EXAMPLE_DIR = str(prepared)
