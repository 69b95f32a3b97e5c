"""Building anew: the new dataset takes the place of the old one when it is whole, not before."""

import shutil
from pathlib import Path

import pytest

from data_pipelines.builders.clip_builder import ClipBuilder
from data_pipelines.records import clips
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives
from tests.data_pipelines.builders.footage import assert_whole, builder, left, moving
from tests.data_pipelines.building import build, numbers, opened


def other(folder: Path) -> Path:
    """Footage of two clips, the first of which is for validation too."""
    for name, first in (("dora", 30), ("erik", 40)):
        fake_archives.write_pair(folder, name, [first, first + 1])
    return folder


def assert_other(data: Path) -> None:
    again = builder(Path("nowhere"), data)
    assert numbers(opened(again, "train"), "foreground") == {
        "footage/mine/dora": [30, 31],
        "footage/mine/erik": [40, 41],
    }
    assert numbers(opened(again, "validation"), "foreground") == {"footage/mine/dora": [30, 31]}
    assert list(again.info.splits) == list(again.info.metadata["clips"]) == ["train", "validation"]
    assert left(data) == ["1.0.0"]


def test_a_new_dataset_takes_the_place_of_the_old_one(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data))
    made = builder(other(tmp_path / "other"), data, anew=True)
    build(made)
    assert_other(data)
    assert Path(made.data_dir).name == "1.0.0"
    assert all(path.exists() for path in made.info.splits["train"].filepaths)
    assert len(made.as_data_source("train")) == 4
    build(made)  # it is there now
    assert_other(data)


def test_one_is_built_anew_though_there_is_none_or_it_is_damaged(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data, anew=True))
    assert_whole(data)
    (data / "footage" / "mine" / "1.0.0" / "dataset_info.json").write_text("{")
    build(builder(folder, data, anew=True))
    assert_whole(data)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, InputError("the clip file is gone"), OSError(28, "full")])
def test_the_old_one_stays_if_the_new_one_fails(folder, tmp_path, monkeypatch, fault):
    data = tmp_path / "data"
    build(builder(folder, data))
    with pytest.raises(InputError, match="nowhere has no folder fgr"):
        build(builder(tmp_path / "nowhere", data, anew=True))
    assert_whole(data)

    def broken(self):
        raise fault

    other(tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(ClipBuilder, "_move_shards", broken)
        with pytest.raises(KeyboardInterrupt if fault is KeyboardInterrupt else InputError):
            build(builder(tmp_path / "other", data, anew=True))
    shutil.rmtree(data / "footage" / "mine" / ".clips-1.0.0")  # what was finished
    assert_whole(data)
    build(builder(tmp_path / "other", data, anew=True))
    assert_other(data)


def test_the_old_one_stays_if_the_new_one_cannot_take_its_place(folder, tmp_path, monkeypatch):
    data = tmp_path / "data"
    build(builder(folder, data))
    other(tmp_path / "other")
    rename = Path.rename

    def interrupted(path, target):
        if path.name.startswith(".new"):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(builder(tmp_path / "other", data, anew=True))
    assert left(data) == [".clips-1.0.0", "1.0.0"]
    build(builder(folder, data))
    assert left(data) == ["1.0.0"]
    assert_whole(data)


@pytest.mark.slow
def test_the_old_one_stays_if_the_process_is_killed(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data))
    with moving(other(tmp_path / "other"), data, "anew"):
        assert "1.0.0" in left(data)
    assert set(clips.open_prepared(data / "footage" / "mine" / "1.0.0").tables) == {"train", "validation"}
    build(builder(folder, data))
    assert_whole(data)


def test_the_old_one_is_put_back_after_a_kill_in_the_exchange(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data))
    home = data / "footage" / "mine"
    (home / "1.0.0").rename(home / ".old-1.0.0")
    shutil.copytree(home / ".old-1.0.0", home / ".new-1.0.0")
    build(builder(Path("nowhere"), data))
    assert_whole(data)
