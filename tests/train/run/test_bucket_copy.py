"""A run's folder in a bucket: whole wherever a copy is cut off, and no more copied than has changed."""

import json
import os
import re
import shutil

import fsspec
import pytest

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from tests import fake_bucket
from tests.killed_bucket import Killed, at_change, raise_killed
from train.run import bucket_copy
from train.run.bucket_copy import BucketCopy

bucket = fake_bucket.bucket

MARKER = "commit_success.txt"


@pytest.fixture
def url(bucket, tmp_path):
    return f"{bucket}/{tmp_path.name}/run"


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def train(folder, done, kept):
    """Leave what a run leaves after `done` iterations."""
    checkpoint = {name: f"{name} after {done}" for name in ("_METADATA", "d/0", "d/1", MARKER)}
    write(folder, {f"checkpoints/{done}/variables/{name}": text for name, text in checkpoint.items()})
    write(folder, {f"checkpoints/{done}/{MARKER}": f"in {folder}"})
    for path in (folder / "checkpoints").iterdir():
        if path.name.isdecimal() and int(path.name) not in kept:
            shutil.rmtree(path)
    lines = "".join(f'{{"iteration": {i}}}\n' for i in range(done))
    files = {"metrics.jsonl": lines, "checkpoints/validation.json": json.dumps({n: n for n in kept})}
    write(folder, {**files, f"validation/{done}.png": "a picture", "wandb/log": "x" * done})


def begin(folder):
    write(folder, {"recipe.json": "the recipe", "sessions.jsonl": '{"host": "a"}\n', "lock": "mine"})


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def in_bucket(url):
    return {name: buckets.read(f"{url}/{name}").decode() for name in buckets.list_files(url)}


def fetched(tmp_path, url, name="other"):
    """What a start on another machine finds."""
    folder = tmp_path / name / "run"
    assert BucketCopy(folder, url).fetch() is False
    return folder


def pushed(tmp_path, url):
    """A run with checkpoints 2 and 4 that was copied, and the object that copied it."""
    folder = tmp_path / "place" / "run"
    copy = BucketCopy(folder, url)
    assert copy.fetch() is False
    begin(folder)
    train(folder, 2, [2])
    train(folder, 4, [2, 4])
    copy.push()
    return folder, copy


def newest(folder):
    return max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdecimal())


def test_what_is_fetched_is_what_was_pushed_but_for_what_stays_there(tmp_path, url):
    folder, _ = pushed(tmp_path, url)
    expected = contents(folder)
    del expected["lock"]
    found = in_bucket(url)
    assert {
        name: "" if name.count("/") == 2 and name.endswith(MARKER) else text for name, text in expected.items()
    } == found
    del found["wandb/log"]
    assert contents(fetched(tmp_path, url)) == found


def test_only_what_has_changed_is_copied(tmp_path, url, monkeypatch):
    folder, copy = pushed(tmp_path, url)
    changed = []
    upload = buckets.upload
    monkeypatch.setattr(buckets, "upload", lambda *given: (changed.extend(given[2]), upload(*given)))
    copy.push()
    assert changed == []
    train(folder, 6, [4, 6])
    copy.push()
    assert {name.partition("/")[0] for name in changed} == {"checkpoints", "metrics.jsonl", "validation", "wandb"}
    assert {name for name in changed if "checkpoints/" in name and "/6/" not in name} == {"checkpoints/validation.json"}
    assert not any("checkpoints/2/" in name for name in in_bucket(url))
    changed.clear()
    resumed = BucketCopy(tmp_path / "third" / "run", url)
    resumed.fetch()
    resumed.push()
    assert changed == []


@pytest.fixture
def in_memory(monkeypatch, tmp_path):
    """A bucket that is quick, and where files are copied one after the other."""
    system = fsspec.filesystem("memory")
    monkeypatch.setattr(buckets, "file_system", lambda url: (system, url.removeprefix("gs:/")))
    monkeypatch.setattr(buckets, "TRANSFERS", 1)
    yield f"gs://{tmp_path.name}/run"
    system.rm("/", recursive=True)


def test_a_file_that_grows_meanwhile_is_copied_as_it_was_and_once_more(tmp_path, in_memory, monkeypatch):
    folder, copy = pushed(tmp_path, in_memory)
    train(folder, 6, [4, 6])
    before = (folder / "wandb" / "log").read_text()
    upload = buckets.upload

    def grow_and_upload(*given):
        if "wandb/log" in given[2]:
            with (folder / "wandb" / "log").open("a") as file:
                file.write("more")
        upload(*given)

    monkeypatch.setattr(buckets, "upload", grow_and_upload)
    for grown in ("", "more"):
        copy.push()
        assert in_bucket(in_memory)["wandb/log"] == before + grown


@pytest.mark.parametrize("after", [False, True])
def test_a_copy_may_be_cut_off_at_every_moment(tmp_path, in_memory, monkeypatch, after):
    """The newest checkpoint is whole, the metrics reach as far, and the same machine copies the rest later."""
    for number in range(100):
        at = f"{in_memory}{number}"
        folder, copy = pushed(tmp_path / str(number), at)
        train(folder, 6, [4, 6])
        with monkeypatch.context() as patched:
            at_change(patched, number, raise_killed, after=after)
            try:
                copy.push()
            except Killed:
                cut = True
            else:
                cut = False
        marked = [int(done) for done in re.findall(rf"checkpoints/(\d+)/{MARKER}", " ".join(buckets.list_files(at)))]
        found = fetched(tmp_path / str(number), at)
        assert newest(found) == max(marked) >= 4
        for path in (found / "checkpoints").iterdir():
            if path.name.isdecimal():
                there = contents(path)
                assert there.pop(MARKER) is not None
                assert set(there.values()) == {
                    f"{name} after {path.name}" for name in ("_METADATA", "d/0", "d/1", MARKER)
                }
        assert (found / "metrics.jsonl").read_text().count("\n") >= newest(found)
        assert not (found / "checkpoints" / "2").exists() or newest(found) == 4 or cut
        again = BucketCopy(folder, at)
        assert again.fetch() is True
        again.push()
        assert newest(folder) == newest(fetched(tmp_path / str(number), at, "last")) == 6
        if not cut:
            assert number > 10
            return
    raise AssertionError("the copy never came to its end")


def test_the_first_copy_may_be_cut_off_at_every_moment(tmp_path, in_memory, monkeypatch):
    """What it leaves is a run, or nothing."""
    for number in range(100):
        at, place = f"{in_memory}{number}", tmp_path / str(number)
        copy = BucketCopy(place / "run", at)
        copy.fetch()
        begin(place / "run")
        train(place / "run", 2, [2])
        with monkeypatch.context() as patched:
            at_change(patched, number, raise_killed)
            try:
                copy.push()
            except Killed:
                cut = True
            else:
                cut = False
        found = fetched(place, at)
        assert (found / "recipe.json").exists() == (number > 0)
        if not cut:
            return


def test_a_checkpoint_without_its_marker_is_none(tmp_path, url):
    pushed(tmp_path, url)
    buckets.remove(url, [f"checkpoints/4/{MARKER}"])
    assert newest(fetched(tmp_path, url)) == 2
    assert not any("checkpoints/4/" in name for name in buckets.list_files(url))


def test_weights_that_are_written_again_are_whole_or_gone(tmp_path, url, monkeypatch):
    folder, copy = pushed(tmp_path, url)
    write(folder, {"weights/_METADATA": "old", "weights/d/old": "old", f"weights/{MARKER}": ""})
    copy.push()
    shutil.rmtree(folder / "weights")
    write(folder, {"weights/_METADATA": "new", "weights/d/new": "new", f"weights/{MARKER}": ""})
    with monkeypatch.context() as patched:
        at_change(patched, 1, raise_killed, names="weights/")
        with pytest.raises(Killed):
            copy.push()
    assert not (fetched(tmp_path, url) / "weights").exists()
    again = BucketCopy(folder, url)
    again.fetch()
    again.push()
    assert contents(fetched(tmp_path, url, "last") / "weights") == {"_METADATA": "new", "d/new": "new", MARKER: ""}


def test_a_folder_that_another_session_has_left_behind_is_fetched_anew(tmp_path, url):
    folder, _ = pushed(tmp_path, url)
    elsewhere = BucketCopy(tmp_path / "elsewhere" / "run", url)
    elsewhere.fetch()
    with (tmp_path / "elsewhere" / "run" / "sessions.jsonl").open("a") as sessions:
        sessions.write('{"host": "b"}\n')
    train(tmp_path / "elsewhere" / "run", 5, [4, 5])
    elsewhere.push()
    train(folder, 8, [4, 8])  # it went on, but could not copy that
    assert BucketCopy(folder, url).fetch() is False
    assert newest(folder) == 5


def test_a_run_that_was_removed_from_the_bucket_begins_anew(tmp_path, url):
    folder, _ = pushed(tmp_path, url)
    buckets.remove(url, buckets.list_files(url))
    assert BucketCopy(folder, url).fetch() is False
    assert contents(folder) == {}


def test_what_is_missing_here_is_not_removed_there(tmp_path, url):
    """A cache folder may lose files at any time."""
    folder, _ = pushed(tmp_path, url)
    shutil.rmtree(folder / "checkpoints" / "2")
    (folder / "checkpoints" / "4" / "variables" / "d" / "0").unlink()
    before = in_bucket(url)
    copy = BucketCopy(folder, url)
    assert copy.fetch() is True
    copy.push()
    assert in_bucket(url) == before
    assert newest(folder) == 4
    assert (folder / "checkpoints" / "2").is_dir()


def test_what_is_not_finished_here_is_not_copied(tmp_path, url):
    folder, copy = pushed(tmp_path, url)
    write(folder, {"checkpoints/6.orbax-checkpoint-tmp/x": "", ".rvm-12/new": "", "checkpoints/.rvm-1/new": ""})
    (folder / "wandb" / "latest").symlink_to("log")
    before = in_bucket(url)
    copy.push()
    assert in_bucket(url) == before


def test_a_folder_that_vanishes_meanwhile_is_no_matter(tmp_path, url, monkeypatch):
    """Files are written in folders of their own, which are there for a moment."""
    folder = tmp_path / "run"
    (folder / "gone").mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    scandir = os.scandir

    def vanishing(path):
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert list(bucket_copy._files(folder)) == ["recipe.json"]


def test_damaged_checkpoints_stay_there(tmp_path, url):
    folder, copy = pushed(tmp_path, url)
    (folder / "checkpoints" / "4").rename(folder / "checkpoints" / "damaged-4")
    copy.push()
    assert newest(fetched(tmp_path, url)) == 2
    assert "checkpoints/damaged-4/variables/d/0" in buckets.list_files(url)


def test_a_folder_of_other_things_is_refused(tmp_path, url):
    buckets.write(f"{url}/holiday.jpg", b"")
    with pytest.raises(InputError, match=r"^gs://.*/run is not the folder of a run, but holds holiday\.jpg"):
        fetched(tmp_path, url)
    assert not (tmp_path / "other").exists()


def test_checkpoints_that_others_have_copied_there_are_not_removed(tmp_path, url):
    pushed(tmp_path, url)
    markers = [f"checkpoints/{done}/{MARKER}" for done in (2, 4)]
    buckets.remove(url, markers)
    before = in_bucket(url)
    with pytest.raises(InputError, match=rf"put a file {MARKER} into checkpoints/2, checkpoints/4, if they are"):
        fetched(tmp_path, url)
    assert in_bucket(url) == before
