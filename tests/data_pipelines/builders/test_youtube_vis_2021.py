"""YouTubeVIS 2021, in miniature."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.archives.rle import to_mask
from data_pipelines.builders.youtube_vis_2021 import archive
from data_pipelines.builders.youtube_vis_2021.youtube_vis_2021_dataset_builder import Builder
from rvm_jax.errors import InputError
from tests.data_pipelines.building import OfArrayRecords
from tests.data_pipelines.fake_archives import tag_picture
from tests.data_pipelines.fake_still_archives import built, decoded, save

HEIGHT, WIDTH = 6, 10
PERSON, DOG = 26, 9


def rle(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths down the columns, by counting."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"counts": counts, "size": list(mask.shape)}


def masks(seed: int) -> np.ndarray:
    """Random, but never alike in height and width, nor up and down; three frames."""
    return np.random.default_rng(seed).random((3, HEIGHT, WIDTH)) < 0.4


def annotation(
    number: int, video: int, category: int, seed: int, frames: tuple[int, ...] = (0, 1, 2)
) -> dict[str, Any]:
    segmentations = [rle(mask) if frame in frames else None for frame, mask in enumerate(masks(seed))]
    return {"id": number, "video_id": video, "category_id": category, "segmentations": segmentations}


def video(number: int, name: str) -> dict[str, Any]:
    names = [f"{name}/{5 * frame:05d}.jpg" for frame in range(3)]
    return {"id": number, "width": WIDTH, "height": HEIGHT, "length": 3, "file_names": names}


def write(manual: Path, content: Any) -> Path:
    path = manual / "youtube_vis_2021" / "train" / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def content() -> dict[str, Any]:
    """Two persons and a dog in b, one person in a, for part of the time, and only a dog in c."""
    return {
        "categories": [{"id": DOG, "name": "dog"}, {"id": PERSON, "name": "person"}],
        "videos": [video(7, "b"), video(8, "a"), video(9, "c")],
        "annotations": [
            annotation(1, 7, PERSON, 1),
            annotation(2, 7, PERSON, 2, frames=(1,)),
            annotation(3, 7, DOG, 3),
            annotation(4, 8, PERSON, 4, frames=(2,)),
            annotation(5, 9, DOG, 5),
        ],
    }


@pytest.fixture
def manual(tmp_path, content):
    for name in "abc":
        for frame in range(3):
            picture = tmp_path / f"youtube_vis_2021/train/JPEGImages/{name}/{5 * frame:05d}.jpg"
            save(picture, "RGB", seed=10 * ord(name) + frame, size=(WIDTH, HEIGHT))
    write(tmp_path, content)
    return tmp_path


def test_only_videos_with_a_person(manual):
    found = archive.find(manual)
    assert (found.errors, found.warnings) == ([], [])
    assert [clip.name for clip in found.splits["validation"]] == ["a"]
    assert [clip.name for clip in found.splits["train"]] == ["b"]


def test_masks_are_the_union_of_the_persons(manual):
    found = archive.find(manual)
    first, second, third = (decoded(record["mask"]) for record in found.splits["train"][0].encode())
    assert first.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(first, 255 * masks(1)[0])
    np.testing.assert_array_equal(second, 255 * (masks(1)[1] | masks(2)[1]))
    np.testing.assert_array_equal(third, 255 * masks(1)[2])


def test_frames_without_annotation_have_an_empty_mask(manual):
    found = archive.find(manual)
    first, second, third = (decoded(record["mask"]) for record in found.splits["validation"][0].encode())
    assert not first.any()
    assert not second.any()
    np.testing.assert_array_equal(third, 255 * masks(4)[2])


def test_pictures_keep_their_bytes(manual):
    clip = archive.find(manual).splits["train"][0]
    pictures = [path for path in clip.files if path.suffix == ".jpg"]
    assert [record["image"] for record in clip.encode()] == [path.read_bytes() for path in pictures]


def test_masks_lie_on_the_pixels_as_they_are_stored(manual):
    """Whatever an orientation tag says; training ignores it too."""
    clip = archive.find(manual).splits["train"][0]
    tagged = tag_picture(clip.files[1], 6)
    record = next(clip.encode())
    assert record["image"] == tagged.read_bytes()
    assert decoded(record["mask"]).shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoded(record["mask"]), 255 * masks(1)[0])


def test_every_50th_video_is_held_out(manual, content):
    content["videos"] = [video(number, f"{number:03d}") for number in range(101)]
    content["annotations"] = [annotation(number, number, PERSON, 0) for number in range(101)]
    write(manual, content)
    splits = archive.find(manual).splits
    assert [clip.name for clip in splits["validation"]] == ["000", "050", "100"]
    assert len(splits["train"]) == 98


def test_large_videos_are_shrunk(manual, content):
    content["videos"][1] |= {"width": 1500, "height": 1440}
    mask = np.arange(1500) > np.full((1440, 1), 750)
    content["annotations"][3]["segmentations"] = [rle(mask), None, None]
    write(manual, content)
    save(manual / "youtube_vis_2021/train/JPEGImages/a/00000.jpg", "RGB", size=(1500, 1440))
    record = next(iter(archive.find(manual).splits["validation"][0].encode()))
    assert decoded(record["image"]).shape == (720, 750, 3)
    assert decoded(record["mask"]).shape == (720, 750)
    assert set(np.unique(decoded(record["mask"]))) == {0, 255}


def test_2019_is_refused(manual, content):
    content["categories"][1]["id"] = 1
    path = write(manual, content)
    (error,) = archive.find(manual).errors
    assert error.startswith(f"{path} is of YouTubeVIS 2019, where person is category 1: expected 2021")


def test_a_missing_picture(manual):
    picture = manual / "youtube_vis_2021/train/JPEGImages/b/00005.jpg"
    picture.unlink()
    (error,) = archive.find(manual).errors
    assert f"instances.json names 1 pictures that are missing: {picture};" in error


def broken_masks() -> list[Any]:
    sound = rle(masks(1)[0])
    return [
        (sound | {"counts": [*sound["counts"], 1]}, "add up to 61 pixels, but 6 rows of 10 have 60"),
        (sound | {"counts": [-1, *sound["counts"], 1]}, "not a list of whole numbers"),
        (sound | {"counts": "PPYo1"}, "compressed"),
        (sound | {"size": [WIDTH, HEIGHT]}, r"its size is [10, 6], but the video's is [6, 10]"),
    ]


@pytest.mark.parametrize(("mask", "message"), broken_masks())
def test_unusable_masks(manual, content, mask, message):
    content["annotations"][0]["segmentations"][:2] = [mask, mask]
    path = write(manual, content)
    (error,) = archive.find(manual).errors
    assert error.startswith(f"{path} cannot be used: the mask of annotation 1 for ")
    assert "b/00000.jpg" in error
    assert message in error
    assert "(and 1 more like this)" in error


def test_too_few_masks(manual, content):
    content["annotations"][0]["segmentations"].pop()
    write(manual, content)
    (error,) = archive.find(manual).errors
    assert "annotation 1 has 2 masks for the 3 pictures of " in error


def test_a_picture_of_another_size(manual):
    picture = save(manual / "youtube_vis_2021/train/JPEGImages/b/00005.jpg", "RGB", size=(HEIGHT, WIDTH))
    with pytest.raises(InputError, match=f"{picture} has 6x10 pixels, but its mask in .*instances.json has 10x6"):
        list(archive.find(manual).splits["train"][0].encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "is not there"), ("{", "cannot be read as JSON"), ("{}", "is not built like"), ("[]", "is not built like")],
)
def test_unusable_files(manual, text, message):
    path = write(manual, {})
    path.unlink() if text is None else path.write_text(text)
    (error,) = archive.find(manual).errors
    assert error.startswith(f"{path} {message}")


def test_too_few_videos(manual, content):
    content["videos"].pop(0)
    write(manual, content)
    (error,) = archive.find(manual).errors
    assert "names 1 videos of persons: expected two or more" in error


def test_run_lengths_start_outside():
    assert to_mask([0, 2, 4], (2, 3)).tolist() == [[True, False, False]] * 2


def test_records_bit_for_bit(manual, tmp_path):
    """What lies in the files of the dataset is what the clips are encoded to, in order."""
    splits = archive.find(manual).splits
    expected = {split: [record for clip in clips for record in clip.encode()] for split, clips in splits.items()}
    assert built(Builder, manual, tmp_path / "data") == expected
    assert len(expected["train"]) == 3


class TestBuilder(OfArrayRecords, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 3, "validation": 3}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _archive(self, manual):
        type(self).EXAMPLE_DIR = str(manual)
