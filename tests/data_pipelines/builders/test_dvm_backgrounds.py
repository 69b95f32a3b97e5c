"""Background videos: those that the lists name, the first 100 frames of each."""

import shutil
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders.dvm_backgrounds import archive
from data_pipelines.builders.dvm_backgrounds.dvm_backgrounds_dataset_builder import Builder
from tests.data_pipelines import fake_archives
from tests.data_pipelines.building import FromArchive, build, numbers, opened, pixels

LISTS = Path(__file__).parent / "lists"


def write_archive(manual: Path) -> Path:
    """Videos of other lengths, of which the lists leave one out in each part; the last is longer than is taken."""
    root = manual / "DVM" / "bg"
    for half, plus, lengths in (("train", 0, (6, 5, 104)), ("test", 200, (3, 4))):
        for i, length in enumerate(lengths):
            frames = (fake_archives.stamped(plus + 10 * i + frame) for frame in range(length))
            fake_archives.write_video(root / half / f"{i:04d}.mp4", frames)
    (manual / archive.LISTS["train"]).write_text("0000\n0002\n")
    (manual / archive.LISTS["test"]).write_text("0001\n")
    return root


class BackgroundVideosTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 106, "test": 4}  # noqa: RUF012 - as TFDS declares it

    archive = staticmethod(write_archive)


@pytest.fixture
def manual(tmp_path) -> Path:
    write_archive(tmp_path / "manual")
    return tmp_path / "manual"


def test_listed_clips_with_their_first_hundred_frames(manual, tmp_path):
    builder = Builder(data_dir=tmp_path / "data")
    build(builder, manual)
    assert numbers(opened(builder, "train"), "image") == {
        "dvm_backgrounds/train/0000": list(range(6)),
        "dvm_backgrounds/train/0002": list(range(20, 120)),
    }
    assert numbers(opened(builder, "test"), "image") == {"dvm_backgrounds/test/0001": list(range(210, 214))}


def test_prepared_pictures_are_preferred_and_keep_their_bytes(manual, tmp_path):
    for place in range(9, 12):
        folder = manual / "BackgroundVideosTrain" / "train"
        fake_archives.write_picture(folder / "0000" / f"{place - 9:04d}.jpg", fake_archives.stamped(place))
        fake_archives.write_picture(folder / "0002" / f"{place}.jpg", fake_archives.stamped(place))
    shutil.rmtree(manual / "DVM")
    builder = Builder(data_dir=tmp_path / "data")
    build(builder, manual)
    clips = opened(builder, "train")
    assert numbers(clips, "image") == {
        "dvm_backgrounds/train/0000": [9, 10, 11],
        "dvm_backgrounds/train/0002": [9, 10, 11],  # 9 comes before 10
    }
    assert clips.read(1)["image"] == (folder / "0000" / "0001.jpg").read_bytes()
    assert list(builder.info.splits) == ["train"]  # there is no test part


def test_clips_are_shrunk(manual, monkeypatch):
    monkeypatch.setattr(archive, "SHORT_SIDE", 48)
    [record, *_] = archive.find(manual).splits["train"][0].encode()
    assert pixels(record["image"]).shape == (48, 64, 3)


def test_the_published_lists_count_3117_and_162(tmp_path):
    for split, count in (("train", 3117), ("test", 162)):
        shutil.copy(LISTS / archive.LISTS[split], tmp_path)
        folder = tmp_path / archive.FOLDERS[split][1]
        folder.mkdir(parents=True)
        for number in range(4000 if split == "train" else 600):
            (folder / f"{number:04d}.png").touch()  # a still is a clip too
        found = archive.find(tmp_path)
        assert found.errors == []
        assert found.warnings == []
        assert len(found.splits[split]) == count
    names = (LISTS / archive.LISTS["train"]).read_text().split()
    assert [clip.name for clip in found.splits["train"]] == [f"train/{name}" for name in names]


def test_names_without_a_file_are_errors(manual):
    names = manual / archive.LISTS["train"]
    names.write_text("".join(f"{number:04d}\n" for number in range(1, 30)))
    (manual / "DVM/bg/test/0001.mp4").unlink()
    folder = manual / "DVM" / "bg"
    assert archive.find(manual).errors == [
        f"{folder / 'train'} has no clip for 27 of the 29 names in {names}: 0003, 0004, 0005, 0006, 0007 and 22 more; "
        "get them, or take the names out of the list",
        f"{folder / 'test'} has no clip for 1 of the 1 names in {manual / archive.LISTS['test']}: 0001; "
        "get them, or take the names out of the list",
    ]


def test_a_list_that_is_not_utf_8_is_an_error(manual):
    names = manual / archive.LISTS["train"]
    names.write_text("0000\n0002\n", encoding="utf-16")
    found = archive.find(manual)
    assert found.errors == [f"{names} is not a list of names in UTF-8, one a line: save it as that"]
    names.write_text("\ufeff0000\r\n0002 \r\n\r\n0000\r\n", encoding="utf-8", newline="")  # as Windows writes it
    assert [clip.name for clip in archive.find(manual).splits["train"]] == ["train/0000", "train/0002"]


def test_without_a_list_all_clips_are_taken(manual):
    for name in archive.LISTS.values():
        (manual / name).unlink()
    found = archive.find(manual)
    assert {split: len(clips) for split, clips in found.splits.items()} == {"train": 3, "test": 2}
    assert len(found.warnings) == 2
    assert f"{archive.LISTS['train']} is missing, so all 3 clips of " in found.warnings[0]


def test_nothing_found_says_what_is_expected(tmp_path):
    [error] = archive.find(tmp_path).errors
    assert error.startswith(f"{tmp_path} has no folder BackgroundVideosTrain/train or DVM/bg/train: ")
    (tmp_path / "DVM/bg/train").mkdir(parents=True)
    [error] = archive.find(tmp_path).errors
    assert "has no clips: expected 0000.mp4" in error


def test_broken_clips_are_found_before_anything_is_built(manual):
    broken = manual / "DVM/bg/train/0002.mp4"
    broken.write_text("not a video")
    twin = manual / "DVM/bg/test/0001.mov"
    twin.touch()
    empty = manual / "DVM/bg/train/0003"
    empty.mkdir()
    (manual / archive.LISTS["train"]).write_text("0000\n0002\n0003\n")
    errors = archive.find(manual).errors
    assert len(errors) == 3
    assert errors[0].startswith(f"{broken} cannot be read as a video: ")
    assert errors[1].startswith(f"{empty} has no frames: ")
    assert errors[2] == f"{twin} and {twin.with_suffix('.mp4')} are two clips of one name: remove or rename one"
