"""Still backgrounds: any folder of pictures."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_pipelines.archives import decode
from data_pipelines.builders import catalog
from data_pipelines.builders.background_images import archive
from data_pipelines.builders.background_images.background_images_dataset_builder import Builder
from data_pipelines.records import licences
from data_pipelines.records.licences import Licence
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives
from tests.data_pipelines.building import FromArchive, build, numbers, opened, pixels

NAMES = ["A.JPG", "b.jpeg", "c.png", "deep/er/a.webp", "deep/z.bmp", *(f"many/{i:02d}.png" for i in range(40))]


def write_archive(manual: Path) -> Path:
    """45 pictures, and some that are none."""
    folder = manual / "backgrounds"
    for number, name in enumerate(NAMES):
        fake_archives.write_picture(folder / name, fake_archives.stamped(number))
    fake_archives.write_picture(folder / "deep" / ".hidden.png", fake_archives.stamped(0))
    fake_archives.write_picture(folder / ".thumbnails" / "a.png", fake_archives.stamped(0))
    (folder / "readme.txt").write_text("where they are from")
    return folder


class BackgroundImagesTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 43, "validation": 2}  # noqa: RUF012 - as TFDS declares it

    archive = staticmethod(write_archive)


def test_what_its_user_wrote_of_the_licence_stays_when_it_is_built_anew(tmp_path):
    write_archive(tmp_path / "manual")
    mine = Licence("CC0-1.0", "https://example.org/mine", "yes", "me")
    for anew in (False, True):
        builder = Builder(data_dir=tmp_path / "data", anew=anew)
        build(builder, tmp_path / "manual")
        folder = tmp_path / "data" / "background_images" / str(builder.version)
        assert licences.read(folder) == (mine if anew else catalog.licence("background_images"))
        licences.write(mine, folder)


def test_all_pictures_are_there_by_name(tmp_path):
    folder = write_archive(tmp_path / "manual")
    builder = Builder(data_dir=tmp_path / "data")
    build(builder, tmp_path / "manual")
    train, validation = opened(builder, "train"), opened(builder, "validation")
    expected = {f"background_images/{name}": [number] for number, name in enumerate(NAMES)}
    held_out = [f"background_images/{NAMES[i]}" for i in (0, 40)]
    assert numbers(validation, "image") == {name: expected.pop(name) for name in held_out}
    assert numbers(train, "image") == expected
    assert validation.read(0)["image"] == (folder / "A.JPG").read_bytes()
    png = decode.read_picture(folder / "c.png")
    assert train.read(1)["image"] == decode.encode_jpeg(png)


def test_pictures_are_shrunk(tmp_path):
    fake_archives.write_picture(tmp_path / "backgrounds" / "a.png", np.zeros((3, 4, 3), np.uint8))
    Image.new("L", (2100, 2050), 77).save(tmp_path / "backgrounds" / "b.png")
    [clip] = archive.find(tmp_path).splits["train"]
    [record] = clip.encode()
    assert pixels(record["image"]).shape == (2048, 2098, 3)  # gray is expanded
    assert np.unique(pixels(record["image"])).tolist() == [77]


@pytest.mark.parametrize(("count", "warned"), [(999, True), (1000, False)])
def test_few_pictures_are_warned_of(tmp_path, count, warned):
    (tmp_path / "backgrounds").mkdir()
    for number in range(count):
        (tmp_path / "backgrounds" / f"{number}.jpg").touch()
    found = archive.find(tmp_path)
    assert {split: len(clips) for split, clips in found.splits.items()} == {"train": count - 25, "validation": 25}
    assert [f"has {count} pictures: add more" in warning for warning in found.warnings] == [True] * warned


def test_a_folder_without_pictures_is_refused(tmp_path):
    folder = tmp_path / "backgrounds"
    for make, there in ((Path, ""), (Path.mkdir, ""), (lambda _: (folder / "a.TIF").touch(), ", only .tif files")):
        make(folder)
        [error] = archive.find(tmp_path).errors
        assert error.startswith(f"{folder} has no pictures{there}: put pictures without people there, thousands of")


def test_one_picture_is_for_training(tmp_path):
    fake_archives.write_picture(tmp_path / "backgrounds" / "a.jpg", fake_archives.stamped(7))
    builder = Builder(data_dir=tmp_path / "data")
    build(builder, tmp_path)
    assert list(builder.info.splits) == ["train"]
    assert numbers(opened(builder, "train"), "image") == {"background_images/a.jpg": [7]}
    [warning] = archive.find(tmp_path).warnings
    assert warning.startswith(f"{tmp_path / 'backgrounds'} has 1 picture: add more")


def test_names_that_are_not_utf_8(tmp_path):
    fake_archives.write_picture(tmp_path / "backgrounds" / "é.png", fake_archives.stamped(0))
    fake_archives.write_picture(tmp_path / "backgrounds" / "caf\udce9.png", fake_archives.stamped(0))
    assert archive.find(tmp_path).errors == [
        f"{tmp_path}/backgrounds/caf\\xe9.png has a name that is not UTF-8: rename it"
    ]


def test_pictures_are_turned_upright(tmp_path):
    path = fake_archives.write_picture(tmp_path / "backgrounds" / "a.jpg", fake_archives.stamped(0))
    fake_archives.tag_picture(path, 6, quality=95)
    [clip] = archive.find(tmp_path).splits["train"]
    [record] = clip.encode()
    image = pixels(record["image"])
    assert image.shape == (fake_archives.WIDTH, fake_archives.HEIGHT, 3)
    assert np.abs(np.rot90(image).astype(int) - fake_archives.stamped(0)).mean() < 6


def test_a_broken_picture_is_named(tmp_path):
    folder = write_archive(tmp_path / "manual")
    (folder / "b.jpeg").write_bytes((folder / "b.jpeg").read_bytes()[:-300])
    with pytest.raises(InputError, match=rf"^{folder}/b\.jpeg cannot be read as a picture, or it is damaged"):
        build(Builder(data_dir=tmp_path / "data"), tmp_path / "manual")
