import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders.synthetic import archive
from data_pipelines.pipelines import datasets, matting
from data_pipelines.pipelines.batches import Slice
from data_pipelines.pipelines.workers import Workers
from data_pipelines.records import clips
from rvm_jax.errors import InputError
from tests.data_pipelines import stamped

MATTING = "synthetic/tiny_matting_clips"


def test_any_frame_of_a_prepared_clip_is_read_as_it_was_encoded(prepared):
    opened = clips.open_clips([MATTING], "train", prepared)
    assert opened.lengths.tolist() == [8, 8, 8]
    assert opened.firsts.tolist() == [0, 8, 16]
    assert opened.frames == 24
    second = list(
        archive.find("matting_clips", {"train": 3, "validation": 0}, seed=0, frames=8, height=48, width=64)
        .splits["train"][1]
        .encode()
    )
    for moment in (7, 0, 3):
        assert opened.read(8 + moment) == second[moment]
    assert all(name.startswith(f"{MATTING}/") for name in opened.names)


def test_clips_of_several_datasets_count_on(prepared):
    both = clips.open_clips([MATTING, "synthetic/tiny_matting_images"], "train", prepared)
    images = clips.open_clips(["synthetic/tiny_matting_images"], "train", prepared)
    assert both.lengths.tolist() == [8, 8, 8, 1, 1]
    assert both.read(25) == images.read(1)
    assert both.read(0) != images.read(0)
    assert clips.concatenate([]).frames == 0


@pytest.mark.slow
def test_reading_while_training_needs_no_video_decoder():
    modules = ", ".join(
        f"data_pipelines.{name}" for name in ("pipelines.datasets", "pipelines.segmentation", "sampling.schedule")
    )
    script = f"import sys, {modules}; print(sorted({{'av', 'decord'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("datasets", "split", "message"),
    [
        (
            ["video_matte_240k/sd"],
            "train",
            r"video_matte_240k/sd is not prepared in .*: run `rvm data prepare video_matte_240k/sd`",
        ),
        ([MATTING], "test", r"tiny_matting_clips has no split 'test': it has train, validation"),
    ],
)
def test_what_is_not_there_is_told(prepared, datasets, split, message):
    with pytest.raises(InputError, match=message):
        clips.open_clips(datasets, split, prepared)


def test_another_split_takes_the_place_of_one_that_is_not_there(prepared):
    opened = clips.open_clips([MATTING], "test", prepared, otherwise=("holdout", "validation"))
    assert opened.lengths.tolist() == [8]


def test_the_newest_version_is_taken(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        (tmp_path / "set" / version).mkdir(parents=True)
        (tmp_path / "set" / version / "dataset_info.json").touch()
    (tmp_path / "set" / "2.0.0").mkdir()  # nothing is in it
    for other in ("incomplete.ABC_3.0.0", ".new-3.0.0", ".old-3.0.0", "3.0.x"):
        (tmp_path / "set" / other).mkdir()
        (tmp_path / "set" / other / "dataset_info.json").touch()
    assert clips.prepared_folder("set", tmp_path) == tmp_path / "set" / "1.10.0"
    assert clips.prepared_folder("other", tmp_path) is None


def test_a_dataset_that_was_not_made_here_is_refused(tmp_path):
    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "foreign"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"x": np.int64}))

        def _split_generators(self, dl_manager):
            return {"train": iter([(0, {"x": 1})])}

        def _generate_examples(self):
            raise NotImplementedError

    Builder(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(InputError, match="has no table of clips: it was not made by `rvm data prepare`"):
        clips.open_clips(["foreign"], "train", tmp_path)


@pytest.fixture
def copied(prepared, tmp_path) -> Path:
    """The version folder of a dataset that a test may damage; its data folder is `tmp_path`."""
    return shutil.copytree(prepared / MATTING / "1.0.0", tmp_path / MATTING / "1.0.0")


SHARD = "synthetic-train.array_record-00000-of-00001"


def rewrite(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def cut(path: Path, count: int) -> None:
    os.truncate(path, path.stat().st_size - count)


DAMAGES = {
    "a shard is gone": (lambda folder: (folder / SHARD).unlink(), f"1 of its files are missing, such as {SHARD}"),
    "a shard lacks its last byte": (lambda folder: cut(folder / SHARD, 1), ""),
    "a shard is empty": (lambda folder: (folder / SHARD).write_bytes(b""), ""),
    "a shard is another": (
        lambda folder: shutil.copy(folder / SHARD.replace("train", "validation"), folder / SHARD),
        "split 'train' have 24 frames, but 24 records were written and 8 are there",
    ),
    "no info": (lambda folder: (folder / "dataset_info.json").unlink(), "Could not read dataset info"),
    "half an info": (lambda folder: cut(folder / "dataset_info.json", 100), "Failed to load JSON"),
    "an empty info": (lambda folder: (folder / "dataset_info.json").write_text("{}"), ""),
    "no splits": (
        lambda folder: rewrite(folder / "dataset_info.json", lambda info: info.pop("splits")),
        "it has a table of clips for train, validation, but records for no split",
    ),
    "no features": (lambda folder: (folder / "features.json").unlink(), ""),
    "half a table": (lambda folder: cut(folder / "metadata.json", 100), ""),
    "a table without a clip": (
        lambda folder: rewrite(folder / "metadata.json", lambda table: table["clips"]["train"]["length"].pop()),
        "split 'train' have 16 frames, but 24 records were written and 24 are there",
    ),
    "a table without a name": (
        lambda folder: rewrite(folder / "metadata.json", lambda table: table["clips"]["train"]["name"].pop()),
        "the table of clips of the split 'train' is cut short",
    ),
    "a table of something else": (
        lambda folder: rewrite(folder / "metadata.json", lambda table: table.update(clips=[1])),
        "",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_told_in_a_line(copied, tmp_path, damage):
    make, reason = DAMAGES[damage]
    make(copied)
    for attempt in (
        lambda: clips.open_prepared(copied),
        lambda: clips.features(MATTING, tmp_path),
        lambda: clips.open_clips([MATTING], "validation", tmp_path),
        lambda: list(clips.verify(MATTING, tmp_path)),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        message = str(caught.value)
        assert message.startswith(f"{copied} is damaged (")
        assert reason in message
        assert message.endswith("): build it anew with --force of `rvm data prepare`")
        assert "\n" not in message


def test_a_whole_dataset_tells_what_it_is(copied):
    dataset = clips.open_prepared(copied)
    assert dataset.features == {"foreground", "alpha"}
    assert [len(records) for records in dataset.records.values()] == [24, 8]
    assert dataset.tables["validation"]["length"] == [8]
    assert dataset.bytes == sum(path.stat().st_size for path in copied.glob("*.array_record*"))


def test_a_dataset_is_opened_once_until_its_files_change(copied, tmp_path):
    opened = clips.open_prepared(copied)
    assert clips.open_prepared(copied) is opened
    assert clips.open_prepared(Path(str(copied))) is opened
    shard = copied / SHARD
    content = shard.read_bytes()
    shard.write_bytes(content)
    again = clips.open_prepared(copied)
    assert again is not opened
    assert again == dataclasses.replace(opened, records=again.records)
    cut(shard, 1)
    with pytest.raises(InputError, match="is damaged"):
        clips.open_prepared(copied)
    shard.write_bytes(content)
    assert clips.open_clips([MATTING], "train", tmp_path).frames == 24
    shutil.rmtree(copied)
    with pytest.raises(InputError, match="is damaged"):
        clips.open_prepared(copied)


def test_every_clip_is_as_it_was_prepared(prepared, copied, tmp_path):
    for role in ("matting_clips", "background_images", "segmentation_clips"):
        assert list(clips.verify(f"synthetic/tiny_{role}", prepared)) == []
    shard = copied / SHARD
    damaged = shard.read_bytes()
    shard.write_bytes(damaged[:64] + bytes(36) + damaged[100:])  # the first record

    def change(content):
        table = content["clips"]["train"]["sha256"]
        table[2] = table[1]

    rewrite(copied / "metadata.json", change)
    first, third = clips.verify(MATTING, tmp_path)
    names = clips.open_prepared(copied).tables["train"]["name"]
    assert first.startswith(f"{copied}: the clip '{names[0]}' of the split 'train' is damaged: it cannot be read (")
    assert third == (
        f"{copied}: the clip '{names[2]}' of the split 'train' is damaged: it has other pictures than when it was "
        "prepared"
    )


# Datasets put together by name


def test_datasets_are_told_by_what_is_in_them(prepared):
    kinds = {
        role: datasets.kind(f"synthetic/tiny_{role}", prepared)
        for role in ("matting_images", "background_clips", "segmentation_clips")
    }
    assert kinds == {
        "matting_images": "matting",
        "background_clips": "background",
        "segmentation_clips": "segmentation",
    }


def test_backgrounds_are_images_or_clips_by_their_length(prepared):
    names = [MATTING, "synthetic/tiny_background_images", "synthetic/tiny_background_clips"]
    data = datasets.open_named(names, "train", prepared)
    assert len(data.foregrounds) == 3
    assert data.background_images.lengths.tolist() == [1, 1, 1]
    assert data.background_clips.lengths.tolist() == [6, 6]
    assert datasets.matting_only(data) is data


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tiny_matting_clips"], "there is no background dataset among"),
        (["tiny_background_images"], "there is no matting dataset among"),
        (["tiny_segmentation_clips", "tiny_matting_clips"], "segmentation datasets are not composited"),
    ],
)
def test_datasets_that_do_not_go_together_are_refused(prepared, names, message):
    with pytest.raises(InputError, match=message):
        datasets.open_named([f"synthetic/{name}" for name in names], "train", prepared)


def test_segmentation_is_not_matting(prepared):
    segmentation = datasets.open_named(["synthetic/tiny_segmentation_images"], "train", prepared)
    assert len(segmentation) == 4
    with pytest.raises(InputError, match="give a matting dataset with backgrounds"):
        datasets.matting_only(segmentation)


def test_threads_may_read_at_the_same_time(prepared):
    """The whole pipeline over a prepared dataset, bitwise the same with one thread and with many."""
    data = datasets.open_matting(
        [MATTING], ["synthetic/tiny_background_clips", "synthetic/tiny_background_images"], "train", prepared
    )
    runs = []
    for threads in (1, 8):
        with Workers(processes=0, threads=threads) as workers:
            endless = matting.batches(data, Slice(4), seed=3, stream="s", frames=4, size=48)
            runs.append(stamped.first(endless, 6, workers))
    for one, other in zip(*runs, strict=True):
        for name, pictures in one.items():
            np.testing.assert_array_equal(pictures, other[name])
