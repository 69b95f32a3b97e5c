import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import clips, matting, training_data
from data_pipelines.batches import Slice
from data_pipelines.builders.synthetic import layout
from rvm_jax.errors import InputError

MATTING = "synthetic/tiny_matting_clips"


def test_any_frame_of_a_prepared_clip_is_read_as_it_was_encoded(prepared):
    opened = clips.open_clips([MATTING], "train", prepared)
    assert opened.lengths.tolist() == [8, 8, 8]
    assert opened.firsts.tolist() == [0, 8, 16]
    assert opened.frames == 24
    second = list(
        layout.find("matting_clips", {"train": 3, "validation": 0}, seed=0, frames=8, height=48, width=64)
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


def test_reading_while_training_needs_no_video_decoder():
    modules = ", ".join(f"data_pipelines.{name}" for name in ("matting", "segmentation", "schedule", "training_data"))
    script = f"import sys, {modules}; print(sorted({{'av', 'decord'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("datasets", "split", "message"),
    [
        (["video_matte_240k/sd"], "train", r"video_matte_240k/sd is not prepared in .*: run `rvm data prepare`"),
        ([MATTING], "test", r"tiny_matting_clips has no split 'test': it has train, validation"),
    ],
)
def test_what_is_not_there_is_told(prepared, datasets, split, message):
    with pytest.raises(InputError, match=message):
        clips.open_clips(datasets, split, prepared)


def test_another_split_takes_the_place_of_one_that_is_not_there(prepared):
    opened = clips.open_clips([MATTING], "test", prepared, otherwise=("holdout", "validation"))
    assert opened.lengths.tolist() == [8]


def test_the_newest_whole_version_is_taken(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        (tmp_path / "set" / version).mkdir(parents=True)
        (tmp_path / "set" / version / "dataset_info.json").touch()
    (tmp_path / "set" / "2.0.0").mkdir()  # half a dataset has no dataset_info.json
    (tmp_path / "set" / "incomplete.ABC_3.0.0").mkdir()
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


# Datasets put together by name


def test_datasets_are_told_by_what_is_in_them(prepared):
    kinds = {
        role: training_data.kind(f"synthetic/tiny_{role}", prepared)
        for role in ("matting_images", "background_clips", "segmentation_clips")
    }
    assert kinds == {
        "matting_images": "matting",
        "background_clips": "background",
        "segmentation_clips": "segmentation",
    }


def test_backgrounds_are_images_or_clips_by_their_length(prepared):
    names = [MATTING, "synthetic/tiny_background_images", "synthetic/tiny_background_clips"]
    data = training_data.open_named(names, "train", prepared)
    assert len(data.foregrounds) == 3
    assert data.background_images.lengths.tolist() == [1, 1, 1]
    assert data.background_clips.lengths.tolist() == [6, 6]
    assert training_data.matting_only(data) is data


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
        training_data.open_named([f"synthetic/{name}" for name in names], "train", prepared)


def test_segmentation_is_not_matting(prepared):
    segmentation = training_data.open_named(["synthetic/tiny_segmentation_images"], "train", prepared)
    assert len(segmentation) == 4
    with pytest.raises(InputError, match="give a matting dataset with backgrounds"):
        training_data.matting_only(segmentation)


def test_threads_may_read_at_the_same_time(prepared):
    """The whole pipeline over a prepared dataset, bitwise the same with one thread and with many."""
    data = training_data.open_matting(
        [MATTING], ["synthetic/tiny_background_clips", "synthetic/tiny_background_images"], "train", prepared
    )
    runs = [
        list(
            matting.batches(data, Slice(4), seed=3, stream="s", frames=4, size=48, threads=threads)
            .take(6)
            .as_numpy_iterator()
        )
        for threads in (1, 8)
    ]
    for one, other in zip(*runs, strict=True):
        for name, pictures in one.items():
            np.testing.assert_array_equal(pictures, other[name])
