"""COCO 2017 panoptic, in miniature: zip files that TFDS itself reads."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.object_detection.coco import Coco

from data_pipelines.builders import catalog
from data_pipelines.builders.coco_person import archive
from data_pipelines.builders.coco_person.coco_person_dataset_builder import Builder
from data_pipelines.records import licences
from data_pipelines.records.clips import open_clips
from rvm_jax.errors import InputError
from tests.data_pipelines.building import OfArrayRecords
from tests.data_pipelines.fake_still_archives import built, decoded

HEIGHT, WIDTH = 12, 16
CATEGORIES = {"person": 1, "backpack": 27, "tie": 32, "rug-merged": 200}
SEGMENTS = {"person": 70_000, "backpack": 300, "tie": 5, "rug-merged": 2**24 - 1}
"""The number of each category's segment, which needs one, two or three bytes of the picture."""
LICENCES = {
    1: "http://creativecommons.org/licenses/by-nc-sa/2.0/",
    2: "http://creativecommons.org/licenses/by-nc/2.0/",
    3: "http://creativecommons.org/licenses/by-nc-nd/2.0/",
    4: "http://creativecommons.org/licenses/by/2.0/",
    5: "http://creativecommons.org/licenses/by-sa/2.0/",
    6: "http://creativecommons.org/licenses/by-nd/2.0/",
    7: "http://flickr.com/commons/usage/",
    8: "http://www.usa.gov/copyright.shtml",
}
LICENCE_OF = {11: 1, 12: 4, 13: 4, 14: 4, 21: 7, 22: 7}
"""Of each picture, that of the person 11 not being free."""
PICTURES = {
    "train2017": {
        11: ["person", "backpack", "rug-merged"],
        12: ["rug-merged", "tie"],  # nobody
        13: ["rug-merged", "person", "tie"],
        14: [],  # nothing
    },
    "val2017": {21: ["backpack"], 22: ["person"]},
}


def bands(labels: list[str]) -> np.ndarray:
    """Every label takes three rows, from the top: the number of its segment."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint32)
    for index, label in enumerate(labels):
        numbers[3 * index : 3 * index + 3] = SEGMENTS[label]
    return numbers


def encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def photo(number: int) -> bytes:
    """The picture of that number: a JPEG, which is gray for 13."""
    shape = (HEIGHT, WIDTH) if number == 13 else (HEIGHT, WIDTH, 3)
    return encoded(np.random.default_rng(number).integers(0, 256, shape, np.uint8), "JPEG")


def write_zips(folder: Path) -> None:
    """The owners' three files; the numbers of segments are written as red + 256 green + 65536 blue."""
    folder.mkdir(parents=True)
    # TFDS wants all 133 categories.
    categories = [{"id": number, "name": name} for name, number in CATEGORIES.items()]
    categories += [{"id": number, "name": f"thing {number}"} for number in range(1000, 1129)]
    with zipfile.ZipFile(folder / "panoptic_annotations_trainval2017.zip", "w") as outer:
        for split, pictures in PICTURES.items():
            images, annotations, inner = [], [], io.BytesIO()
            with zipfile.ZipFile(folder / f"{split}.zip", "w") as photos, zipfile.ZipFile(inner, "w") as areas:
                for number, labels in pictures.items():
                    numbers = bands(labels)
                    colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
                    photos.writestr(f"{split}/{number:012d}.jpg", photo(number))
                    areas.writestr(f"panoptic_{split}/{number:012d}.png", encoded(colors, "PNG"))
                    file_name = f"{number:012d}.jpg"
                    size = {"height": HEIGHT, "width": WIDTH}
                    images.append({"id": number, "file_name": file_name, "license": LICENCE_OF[number], **size})
                    segments = [
                        {
                            "id": SEGMENTS[label],
                            "category_id": CATEGORIES[label],
                            "area": 1,
                            "iscrowd": 0,
                            "bbox": [0] * 4,
                        }
                        for label in labels
                    ]
                    annotation = {"image_id": number, "file_name": f"{number:012d}.png", "segments_info": segments}
                    annotations.append(annotation)
            known = [{"id": number, "url": url} for number, url in LICENCES.items()]
            content = {"licenses": known, "images": images, "annotations": annotations, "categories": categories}
            outer.writestr(f"annotations/panoptic_{split}.json", json.dumps(content))
            outer.writestr(f"annotations/panoptic_{split}.zip", inner.getvalue())


def published(folder: Path) -> mock._patch:
    """Make TFDS take the miniature zips for those that it knows the checksums of."""
    known = {
        archive.URL + url: checksums.compute_url_info(tfds.core.Path(folder / Path(url).name)) for url in archive.ZIPS
    }
    return mock.patch.object(Coco, "url_infos", known)


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """A folder with the zips in manual/, and in data/ what is built from them; its records."""
    folder = tmp_path_factory.mktemp("coco")
    write_zips(folder / "manual")
    with published(folder / "manual"):
        records = built(Builder, folder / "manual", folder / "data")
    return folder, records


@pytest.fixture
def manual(tmp_path):
    write_zips(tmp_path / "manual")
    return tmp_path / "manual"


def test_pictures_with_a_person(coco):
    folder, records = coco
    found = archive.find(folder / "manual", "", folder / "data")
    assert (found.errors, found.warnings) == ([], [])
    assert sorted(clip.name for clip in found.splits["train"]) == ["000000000011", "000000000013"]
    assert [clip.name for clip in found.splits["validation"]] == ["000000000022"]
    assert {split: len(frames) for split, frames in records.items()} == {"train": 2, "validation": 1}


def test_records_bit_for_bit(coco):
    """A colour JPEG keeps its bytes, a gray one becomes colour; masks are of persons, backpacks and ties."""
    folder, records = coco
    order = [clip.name for clip in archive.find(folder / "manual", "", folder / "data").splits["train"]]
    by_name = dict(zip(order, records["train"], strict=True))
    first, second, (third,) = by_name["000000000011"], by_name["000000000013"], records["validation"]
    assert first["image"] == photo(11)
    assert third["image"] == photo(22)
    gray = decoded(photo(13))
    np.testing.assert_allclose(decoded(second["image"]), np.stack([gray] * 3, -1), atol=8)
    for record, rows in ((first, range(6)), (second, range(3, 9)), (third, range(3))):
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        expected[list(rows)] = 255
        np.testing.assert_array_equal(decoded(record["mask"]), expected)


def test_the_free_ones(coco):
    """A picture that may not be used commercially is left out; the others are the same records."""
    folder, records = coco
    builder = catalog.builder("coco_person/free", folder / "data")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder / "manual"))
    free = open_clips(["coco_person/free"], "train", folder / "data")
    assert free.names == ["coco_person/free/000000000013"]
    assert free.read(0) in records["train"]
    assert len(open_clips(["coco_person/free"], "validation", folder / "data")) == 1
    licence, all_of_them = (
        licences.read(folder / "data" / name / "1.0.0") for name in ("coco_person/free", "coco_person")
    )
    assert (licence.commercial, all_of_them.commercial) == ("yes", "no")


def test_three_licences_of_eight_are_free():
    free = {number for number, url in LICENCES.items() if any(part in url for part in archive.FREE_LICENCES)}
    assert free == {4, 7, 8}


def test_licences_that_are_not_told(coco, tmp_path):
    folder, _ = coco
    (error,) = archive.find(tmp_path, "free", folder / "data").errors
    assert error.startswith(f"{tmp_path}/panoptic_annotations_trainval2017.zip is not there, which tells the licence")
    with zipfile.ZipFile(tmp_path / "panoptic_annotations_trainval2017.zip", "w") as file:
        file.writestr("annotations/panoptic_train2017.json", json.dumps({"images": []}))
    (error,) = archive.find(tmp_path, "free", folder / "data").errors
    assert "panoptic_train2017.json does not tell licences as COCO's does" in error


def test_what_is_extracted_is_removed(coco):
    folder, _ = coco
    assert sorted(path.name for path in (folder / "data" / "coco").iterdir()) == [".config", "2017_panoptic"]
    assert not list((folder / "data").rglob("*.jpg"))


def test_the_zips_are_not_needed_again(coco, tmp_path):
    folder, _ = coco
    assert len(archive.find(tmp_path, "", folder / "data").splits["train"]) == 2


def test_workers_import_no_tensorflow(coco):
    folder, _ = coco
    code = (
        "import pathlib, sys\n"
        "from data_pipelines.builders.coco_person import archive\n"
        f"clips = archive.find(pathlib.Path(), '', pathlib.Path({str(folder / 'data')!r})).splits['train']\n"
        "print(len(list(clips[0].encode())), 'tensorflow' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "1 False\n"


def test_zips_that_are_missing_or_cut_short(manual):
    (manual / "train2017.zip").unlink()
    content = (manual / "val2017.zip").read_bytes()
    (manual / "val2017.zip").write_bytes(content[: len(content) // 2])
    found = archive.find(manual, "", manual.parent / "data")
    missing, cut = found.errors
    assert "coco/2017_panoptic will be prepared first" in found.warnings[0]
    assert missing.startswith(f"{manual / 'train2017.zip'} is not there: get it from {archive.URL}zips/train2017.zip")
    assert cut.startswith(f"{manual / 'val2017.zip'} is cut short or no zip file")


def test_other_zips_than_the_published_ones(manual):
    builder = Builder(data_dir=manual.parent / "data", file_format="array_record")
    with pytest.raises(InputError, match="holds a zip file that is not the one which COCO published") as raised:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    assert "2017.zip" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_another_file_format(manual):
    data_dir = manual.parent / "data"
    with published(manual):
        builder = tfds.builder("coco/2017_panoptic", data_dir=data_dir, file_format="tfrecord")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    (error,) = archive.find(manual, "", data_dir).errors
    assert error.startswith(f"{archive.panoptic_folder(data_dir)} is stored as tfrecord, but array_record is expected")


def test_a_folder_that_is_no_dataset(manual, tmp_path):
    folder = archive.panoptic_folder(tmp_path)
    folder.mkdir(parents=True)
    (error,) = archive.find(manual, "", tmp_path).errors
    assert error.startswith(f"{folder} is not a dataset of TFDS")


def example(**changes: object) -> dict[str, object]:
    """An example of TFDS's dataset, as it is read."""
    areas = encoded(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "PNG")
    objects = {"id": [], "label": []}
    return {
        "image": photo(1),
        "image/filename": b"1.jpg",
        "panoptic_image": areas,
        "panoptic_objects": objects,
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": photo(1)[:300]}, "1.jpg of .* is damaged"),
        ({"panoptic_image": encoded(np.zeros((WIDTH, HEIGHT, 3), np.uint8), "PNG")}, "has 16x12 pixels, .* has 12x16"),
    ],
)
def test_unusable_examples(coco, monkeypatch, changes, message):
    folder = archive.panoptic_folder(coco[0] / "data")
    monkeypatch.setattr(archive, "_source", lambda folder, split: [example(**changes)])
    with pytest.raises(InputError, match=message):
        list(archive.encode(folder, "train", 0))


class TestBuilder(OfArrayRecords, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 2, "validation": 1}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _archive(self, coco):
        type(self).EXAMPLE_DIR = str(coco[0] / "manual")
        self.prepared = coco[0] / "data" / "coco"

    def _make_builder(self, config=None):
        """TFDS's mocks replace extraction, so its own dataset is there already."""
        shutil.copytree(self.prepared, Path(self.tmp_dir) / "coco", dirs_exist_ok=True)
        return super()._make_builder(config)
