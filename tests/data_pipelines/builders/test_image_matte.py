"""Distinctions-646 and Adobe Image Matting, in miniature."""

import re
import shutil
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders.image_matte import archive
from data_pipelines.builders.image_matte.image_matte_dataset_builder import Builder
from rvm_jax.errors import InputError
from tests.data_pipelines.building import OfArrayRecords
from tests.data_pipelines.fake_still_archives import built, decoded, save

LISTS = Path(__file__).parent / "lists"
D646_TRAIN = "Distinctions-646/Train/FG"
D646_TEST = "Distinctions-646/Test/FG"
AIM_TRAIN = "Combined_Dataset/Training_set/Adobe-licensed images/fg"
AIM_OTHER = "Combined_Dataset/Training_set/Other/fg"
AIM_TEST = "Combined_Dataset/Test_set/Adobe-licensed images/fg"


def lines(file: str) -> list[str]:
    return (LISTS / file).read_text().splitlines()


def pair(manual: Path, foregrounds: str, name: str, seed: int = 0) -> None:
    """A foreground and its alpha, a PNG whatever the foreground is."""
    alphas = foregrounds[:-2] + ("GT" if foregrounds.endswith("FG") else "alpha")
    save(manual / foregrounds / name, "RGB", seed)
    save(manual / alphas / f"{Path(name).stem}.png", "L", seed + 1)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A picture for every name of the published lists: those with a letter and a number in Distinctions-646."""
    manual = tmp_path_factory.mktemp("published")
    for file in archive.LISTS.values():
        shutil.copy(LISTS / file, manual)
    listed = {name for file in ("imagematte_train.txt", "imagematte_valid.txt") for name in lines(file)}
    for seed, stem in enumerate(sorted(Path(name).stem for name in listed)):
        if re.fullmatch(r"(h|t|test|train)_\d+", stem):
            pair(manual, D646_TRAIN, f"{stem}.png", seed)
        else:
            pair(manual, AIM_TRAIN if seed % 2 else AIM_OTHER, f"{stem}.jpg", seed)
    for seed, name in enumerate(lines("d646_test.txt")):
        pair(manual, D646_TEST, name, 1000 + seed)
    for seed, name in enumerate(lines("aim_test.txt")):
        pair(manual, AIM_TEST, name, 2000 + seed)
    return manual


@pytest.fixture
def small(tmp_path):
    """A picture for every list, one of them a JPEG."""
    listed = {"imagematte_train.txt": "h_1", "imagematte_valid.txt": "boy", "d646_test.txt": "test_1"}
    for file, stem in {**listed, "aim_test.txt": "girl"}.items():
        (tmp_path / file).write_text(f"{stem}.jpg\n")
    pair(tmp_path, D646_TRAIN, "h_1.png")
    pair(tmp_path, AIM_OTHER, "boy.jpg", 10)
    pair(tmp_path, D646_TEST, "test_1.png", 20)
    pair(tmp_path, AIM_TEST, "girl.png", 30)
    return tmp_path


def names(found, split):
    return [clip.name for clip in found.splits[split]]


def test_the_published_lists(published):
    found = archive.find(published)
    assert found.errors == []
    counts = {split: len(clips) for split, clips in found.splits.items()}
    assert counts == {"train": 415, "validation": 15, "test_d646": 11, "test_aim": 11}
    (warning,) = found.warnings
    assert warning.startswith("5 names stand in both imagematte_train.txt and imagematte_valid.txt")
    doubles = warning.split(": ")[1].split(", ")
    assert len(doubles) == 5
    assert set(doubles) <= set(names(found, "validation"))
    assert not set(doubles) & set(names(found, "train"))
    assert "woman-952506_1920 (1)" in names(found, "test_aim")
    # A name that is in both halves of Distinctions-646 is a picture of its own in each.
    train, test = ({clip.name: clip for clip in found.splits[split]}["test_32"] for split in ("train", "test_d646"))
    assert train.files[0] == published / D646_TRAIN / "test_32.png"
    assert test.files[0] == published / D646_TEST / "test_32.png"


def test_records(small):
    found = archive.find(small)
    assert (found.errors, found.warnings) == ([], [])
    (train,), (validation,) = found.splits["train"], found.splits["validation"]
    (record,) = train.encode()
    assert record["alpha"].startswith(b"\x89PNG")
    assert (decoded(record["alpha"]) == decoded(train.files[1].read_bytes())).all()
    assert record["foreground"].startswith(b"\xff\xd8")
    assert decoded(record["foreground"]).shape == (8, 8, 3)
    (record,) = validation.encode()
    assert record["foreground"] == validation.files[0].read_bytes()  # a JPEG keeps its bytes


def test_large_pictures_are_shrunk(small):
    save(small / AIM_OTHER / "boy.jpg", "RGB", size=(2100, 2060))
    save(small / AIM_OTHER / "../alpha/boy.png", "L", size=(2100, 2060))
    (record,) = archive.find(small).splits["validation"][0].encode()
    assert decoded(record["foreground"]).shape == (2048, 2088, 3)
    assert decoded(record["alpha"]).shape == (2048, 2088)


def test_a_name_that_could_be_several_pictures(small):
    pair(small, AIM_TRAIN, "h_1.jpg")
    (error,) = archive.find(small).errors
    assert str(small / D646_TRAIN / "h_1.png") in error
    assert str(small / AIM_TRAIN / "h_1.jpg") in error
    assert "h_1 of imagematte_train.txt could be" in error


def test_two_alphas_of_one_foreground(small):
    save(small / "Distinctions-646/Train/GT/h_1.jpg", "L")
    (error,) = archive.find(small).errors
    assert error.count("Train/GT/h_1") == 2


def test_names_without_a_picture(small):
    with (small / "imagematte_train.txt").open("a") as file:
        file.writelines(f"missing_{index}.jpg\n" for index in range(7))
    (error,) = archive.find(small).errors
    assert error.startswith("7 names of imagematte_train.txt have no picture in ")
    assert "missing_0, missing_1, missing_2, missing_3, missing_4 and 2 more" in error


def test_foregrounds_without_an_alpha(small):
    (small / "Distinctions-646/Train/GT/h_1.png").unlink()
    (error,) = archive.find(small).errors
    assert error == f"1 foregrounds have no alpha of the same name: {small / D646_TRAIN / 'h_1.png'}"


@pytest.mark.parametrize(("folder", "ask"), [("Distinctions-646", "its authors"), ("Combined_Dataset", "Brian Price")])
def test_an_absent_set_is_one_line(published, tmp_path, folder, ask):
    for path in published.iterdir():
        if path.name != folder:
            (tmp_path / path.name).symlink_to(path)
    (error,) = archive.find(tmp_path).errors
    assert error.startswith(f"{tmp_path / folder} is not there: ask {ask}")


def test_names_of_the_test_folders(small):
    """Such a name is used for training too, except where the picture stands in a test list."""
    pair(small, D646_TEST, "test_8.png")
    (small / "imagematte_train.txt").write_text("h_1.jpg\ntest_8.jpg\ntest_1.jpg\n")
    found = archive.find(small)
    assert found.errors == []
    assert names(found, "train") == ["h_1", "test_8"]
    assert names(found, "test_d646") == ["test_1"]
    borrowed, leaked = found.warnings
    assert "2 names of imagematte_train.txt are only in the owners' test folders" in borrowed
    assert leaked.endswith("are pictures of a test list and are kept out of train: test_1")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is not there"), (b"\n", "is empty"), ("h_1.jpg\n".encode("utf-16"), "is not a list of names in UTF-8")],
)
def test_unusable_lists(small, content, message):
    path = small / "imagematte_valid.txt"
    path.unlink() if content is None else path.write_bytes(content)
    (error,) = archive.find(small).errors
    assert error.startswith(f"{path} {message}")


def test_lists_written_on_windows(small):
    (small / "imagematte_train.txt").write_bytes(b"\xef\xbb\xbfh_1.jpg\r\n\r\n")
    found = archive.find(small)
    assert found.errors == []
    assert names(found, "train") == ["h_1"]


def test_names_that_are_not_utf_8(small):
    save(small / D646_TRAIN / "caf\udce9.png", "RGB")
    (error,) = archive.find(small).errors
    assert error == f"{small / D646_TRAIN}/caf\\xe9.png has a name that is not UTF-8: rename it"


def test_sizes_that_differ(small, tmp_path):
    foreground = save(small / D646_TRAIN / "h_1.png", "RGB", size=(9, 8))
    with pytest.raises(InputError, match=f"{foreground} and .*h_1.png: alpha of frame 0 has 8x8 pixels where 9x8"):
        built(Builder, small, tmp_path / "data")


def test_records_bit_for_bit(small, tmp_path):
    """What lies in the files of the dataset is what the clips are encoded to, in order."""
    splits = archive.find(small).splits
    expected = {split: [record for clip in clips for record in clip.encode()] for split, clips in splits.items()}
    assert built(Builder, small, tmp_path / "data") == expected


class TestBuilder(OfArrayRecords, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 415, "validation": 15, "test_d646": 11, "test_aim": 11}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _archive(self, published):
        type(self).EXAMPLE_DIR = str(published)
