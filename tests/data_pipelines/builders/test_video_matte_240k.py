"""VideoMatte240K: which clips, in which size, from which of its archives; and what is wrong with an archive."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.archives import decode
from data_pipelines.builders.video_matte_240k import archive
from data_pipelines.builders.video_matte_240k.video_matte_240k_dataset_builder import Builder
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives
from tests.data_pipelines.building import FromArchive, build, numbers, opened, pixels

TRAIN = {"train/0001": list(range(20, 30)), "train/0002": list(range(40, 51))}
VALIDATION = {"train/0000": list(range(9)), "train/0100": list(range(60, 72))}
TEST = {"test/0000": list(range(100, 109))}


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    manual = tmp_path_factory.mktemp("video_matte_videos")
    fake_archives.video_matte_240k(manual)
    return manual


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory) -> Path:
    """Both archives of JPEGs: the pictures of the larger one have other numbers (all plus 100)."""
    manual = tmp_path_factory.mktemp("video_matte_jpegs")
    fake_archives.video_matte_240k(manual, kind="_JPEG_SD")
    fake_archives.video_matte_240k(manual, kind="_JPEG_HD", plus=100)
    return manual


class VideoMatteTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 21, "validation": 21, "test": 9}  # noqa: RUF012 - as TFDS declares it

    archive = staticmethod(fake_archives.video_matte_240k)


@pytest.fixture(scope="session")
def from_videos(videos, tmp_path_factory) -> Builder:
    builder = Builder(config="sd", data_dir=tmp_path_factory.mktemp("data"))
    build(builder, videos)
    return builder


def test_every_frame_of_the_videos_is_there_in_order(from_videos):
    for split, expected in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        clips = opened(from_videos, split)
        expected = {f"video_matte_240k/sd/{name}": frames for name, frames in expected.items()}
        assert numbers(clips, "foreground") == expected
        assert numbers(clips, "alpha") == expected


def test_alphas_of_videos_are_right_and_gray(from_videos):
    clips = opened(from_videos, "test")
    alpha = pixels(clips.read(3)["alpha"])
    assert alpha.shape == (fake_archives.HEIGHT, fake_archives.WIDTH)
    error = np.abs(alpha.astype(int) - fake_archives.stamped_alpha(103))
    assert error.mean() < 4


def test_the_table_of_clips_survives_a_reload(from_videos):
    table = Builder(config="sd", data_dir=from_videos.data_dir_root).info.metadata["clips"]
    assert table["validation"]["name"] == list(VALIDATION)
    assert table["validation"]["length"] == [9, 12]
    clips = opened(from_videos, "validation")
    ranges = [range(first, first + length) for first, length in zip(clips.firsts, clips.lengths, strict=True)]
    assert table["validation"]["sha256"] == [fake_archives.digest(map(clips.read, frames)) for frames in ranges]


def test_sound_jpegs_of_the_right_size_keep_their_bytes(jpegs, tmp_path):
    builder = Builder(config="sd", data_dir=tmp_path)
    build(builder, jpegs)
    clips = opened(builder, "train")
    assert list(numbers(clips, "foreground").values()) == list(TRAIN.values())
    pair = jpegs / archive.SD / "train"
    for place in range(10):
        record = clips.read(place)
        assert record["foreground"] == (pair / "fgr" / "0001" / f"{place:05d}.jpg").read_bytes()
        source = pixels((pair / "pha" / "0001" / f"{place:05d}.jpg").read_bytes())
        np.testing.assert_array_equal(pixels(record["alpha"]), source)


def test_a_larger_archive_is_shrunk(jpegs, videos, tmp_path, monkeypatch):
    found = archive.find(jpegs, "hd")
    monkeypatch.setitem(archive.SHORT_SIDE, "hd", 48)
    [record, *_] = archive.find(jpegs, "hd").splits["train"][0].encode()
    assert pixels(record["foreground"]).shape == (48, 64, 3)
    assert pixels(record["alpha"]).shape == (48, 64)
    assert fake_archives.number_in(pixels(record["foreground"])) == 120  # from the archive of its own size
    large = decode.read_foreground(found.splits["train"][0].files[0] / "00000.jpg")
    assert record["foreground"] == decode.encode_jpeg(decode.shrink(large, short_side=48))


def test_which_archive_is_taken(tmp_path):
    for kind in ("_JPEG_HD", "", "_JPEG_SD"):
        fake_archives.video_matte_240k(tmp_path, kind=kind)
        sources = {
            clip.files[0].relative_to(tmp_path).parts[0] for clip in archive.find(tmp_path, "sd").splits["train"]
        }
        assert sources == {f"VideoMatte240K{kind}"}


def test_hd_is_not_made_from_sd(tmp_path):
    fake_archives.video_matte_240k(tmp_path, kind="_JPEG_SD")
    [error] = archive.find(tmp_path, "hd").errors
    assert (
        "no folder VideoMatte240K_JPEG_HD or VideoMatte240K, only VideoMatte240K_JPEG_SD, which is too small" in error
    )
    assert archive.PAGE in error


def test_an_empty_folder_says_what_to_put_there(tmp_path):
    [error] = archive.find(tmp_path, "sd").errors
    assert str(tmp_path) in error
    assert "VideoMatte240K_JPEG_SD or VideoMatte240K or VideoMatte240K_JPEG_HD" in error
    assert archive.PAGE in error
    (tmp_path / archive.ORIGINAL / "train" / "fgr").mkdir(parents=True)
    [error] = archive.find(tmp_path, "sd").errors
    assert "has no clips: expected train/fgr/0000.mp4" in error
    with pytest.raises(InputError, match=r"nothing has no folder VideoMatte240K_JPEG_SD or"):
        build(Builder(config="sd", data_dir=tmp_path / "data"), tmp_path / "nothing")


def test_other_numbers_of_clips_than_published_are_noted(videos):
    found = archive.find(videos, "sd")
    assert found.errors == []
    assert [warning.split("has ")[1] for warning in found.warnings] == [
        "4 clips: 479 were published",
        "1 clips: 5 were published",
    ]


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    root = fake_archives.video_matte_240k(tmp_path, kind="_JPEG_SD")
    train, test = root / "train", root / "test"
    for picture in (train / "pha" / "0000").iterdir():
        picture.unlink()
    (train / "pha" / "0001" / "00003.jpg").unlink()
    (train / "fgr" / "0002" / "00000.jpg").rename(train / "fgr" / "0002" / "00099.jpg")
    (train / "pha" / "0100").rename(train / "pha" / "0101")
    fake_archives.write_video(test / "fgr" / "0001.mp4", map(fake_archives.stamped, range(5)))
    fake_archives.write_video(test / "pha" / "0001.mp4", map(fake_archives.stamped_alpha, range(4)))
    (test / "fgr" / "0002.mp4").write_text("not a video")
    (test / "pha" / "0002.mp4").write_text("not a video")
    errors = archive.find(tmp_path, "sd").errors
    expected = [
        f"{train / 'fgr'} has clips without the other half in {train / 'pha'}: 0100; ",
        f"{train / 'pha'} has clips without the other half in {train / 'fgr'}: 0101; ",
        f"{train / 'pha' / '0000'} has no frames: expected .bmp, ",
        f"{train / 'fgr' / '0001'} has 10 frames and {train / 'pha' / '0001'} has 9: ",
        f"{train / 'fgr' / '0002'} and {train / 'pha' / '0002'} name their frames differently (00000, 00099): ",
        f"{test / 'fgr' / '0001.mp4'} has 5 frames and {test / 'pha' / '0001.mp4'} has 4: ",
        f"{test / 'fgr' / '0002.mp4'} cannot be read as a video: ",
    ]
    assert len(errors) == len(expected)
    for error, start in zip(errors, expected, strict=True):
        assert error.startswith(start)
        assert "\n" not in error
    with pytest.raises(InputError, match=r"video_matte_240k/sd/1\.0\.0 cannot be prepared:\n") as caught:
        build(Builder(config="sd", data_dir=tmp_path / "data"), tmp_path)
    assert str(caught.value).splitlines()[1:] == errors


@pytest.mark.parametrize(
    ("half", "mode", "message"),
    [
        ("fgr", "L", "is gray: a foreground must be RGB"),
        ("fgr", "RGBA", "with an alpha channel: a foreground"),
        ("pha", "LA", "with an alpha channel: an alpha"),
        ("pha", "I;16", "has 16 bits"),
    ],
)
def test_bad_pictures_are_named_when_they_are_read(tmp_path, half, mode, message):
    root = fake_archives.video_matte_240k(tmp_path, kind="_JPEG_SD")
    bad = root / "train" / half / "0002" / "00007.png"
    bad.with_suffix(".jpg").unlink()
    fake_archives.write_mode(bad, mode)
    with pytest.raises(InputError, match=rf"^{bad}.*{message}"):
        build(Builder(config="sd", data_dir=tmp_path / "data"), tmp_path)


def test_pairs_that_end_at_different_frames_are_refused(videos, tmp_path):
    """The headers agree here, the frames do not: the first pictures of a cut open GOP are gone."""
    pair = [videos / archive.ORIGINAL / "train" / half / "0100.mp4" for half in ("fgr", "pha")]
    cut = fake_archives.cut_video(pair[0], tmp_path / "cut.mp4")
    records = archive.matting_records(cut, pair[1])
    with pytest.raises(InputError, match=rf"{cut} ends after \d frames where {pair[1]} goes on"):
        list(records)
