"""Whole runs in a bucket: killed while they are copied, stopped, and gone on with on an emptied machine."""

import json
import os
import random
import shutil
import signal

import pytest

from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import bucket_lock, buckets
from rvm_jax.weights import orbax_folders
from tests import fake_bucket
from tests.data_pipelines import conftest
from tests.killed_bucket import Killed, at_change, raise_killed, unreachable
from tests.train import runs, test_loop
from tests.train.test_loop import assert_same_run, stop_with
from tests.train.test_processes import begin, check_same, finish, newest
from train import loop

prepared = conftest.prepared
bucket = fake_bucket.bucket
whole = test_loop.whole
pytestmark = [pytest.mark.longest, pytest.mark.slow, pytest.mark.usefixtures("small_network")]
KILLS = int(os.environ.get("RVM_KILLS", "0"))


@pytest.fixture
def url(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bucket_lock, "MOMENT", 0)
    monkeypatch.setattr(bucket_lock.BucketLock, "beat", lambda _: None)  # in a thread, where no test waits for `Killed`
    return f"{bucket}/{tmp_path.name}/run"


def empty_the_machine(tmp_path):
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def in_bucket(url, folder):
    """What the bucket has of a run, without what is not whole."""
    shutil.rmtree(folder, ignore_errors=True)
    buckets.download(url, folder, orbax_folders.whole_files(buckets.list_files(url)))
    return folder


def test_a_run_that_is_killed_while_it_copies_goes_on_bit_for_bit(whole, prepared, url, tmp_path, monkeypatch, capsys):
    """Within the checkpoint after four iterations, then before the marker of the one after six; each time elsewhere."""
    options = runs.options(url, prepared)
    for place, going_on in (("checkpoints/4/moments/", 3), (f"checkpoints/6/{orbax_folders.MARKER}", 4)):
        with monkeypatch.context() as patched:
            at_change(patched, 0, raise_killed, names=place)
            with pytest.raises(Killed):
                loop.train(runs.RECIPE, options)
        empty_the_machine(tmp_path)
        lock_is_old(url)
        saved = in_bucket(url, tmp_path / "copy")
        done, _ = newest(saved)
        assert done == going_on
        assert len([line for line in runs.recorded(saved) if "stage" in line]) >= done
    capsys.readouterr()
    loop.train(runs.RECIPE, options)
    told = capsys.readouterr().err
    assert f"in {url}; going on after 4" in told
    assert f"wrote {url}/report.html, {url}/weights, {url}/weights.pth" in told
    assert not list((tmp_path / "cache" / "rvm-jax" / "runs").iterdir())
    found = in_bucket(url, tmp_path / "copy")
    assert not (found / "lock").exists()
    assert_same_run(found, whole)
    assert (found / "validation" / "0.png").exists()
    assert "data:image/png" in (found / "report.html").read_text()


def lock_is_old(url):
    """The process that holds it is this one, so that it does not look dead; as if a minute had passed."""
    buckets.remove(url, ["lock"])


def test_a_run_that_is_stopped_is_in_the_bucket(whole, prepared, url, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_with(patched, signal.SIGTERM, 2)
        with pytest.raises(Stopped, match="stopped and saved after") as stopped:
            loop.train(runs.RECIPE, runs.options(url, prepared))
    assert stopped.value.status == 143
    done, _ = newest(in_bucket(url, tmp_path / "copy"))
    assert f"after {done} of 8 iterations" in str(stopped.value)
    assert done > 2
    empty_the_machine(tmp_path)
    loop.train(runs.RECIPE, runs.options(url, prepared))
    assert_same_run(in_bucket(url, tmp_path / "copy"), whole)


def test_a_run_that_is_stopped_and_cannot_be_copied_is_not_told_as_saved(
    whole, prepared, url, tmp_path, monkeypatch, capsys
):
    """The same command on this machine copies it and goes on."""
    with monkeypatch.context() as patched:
        at_change(patched, 0, unreachable, names="checkpoints/4/")
        stop_with(patched, signal.SIGTERM, 4)
        with pytest.raises(InputError, match=r"the network is down; what is not there yet is in .*/run: the same"):
            loop.train(runs.RECIPE, runs.options(url, prepared))
    assert "the network is down; training goes on" in capsys.readouterr().err
    assert newest(in_bucket(url, tmp_path / "copy"))[0] == 3
    lock_is_old(url)
    loop.train(runs.RECIPE, runs.options(url, prepared))
    assert "going on after 6" in capsys.readouterr().err
    assert_same_run(in_bucket(url, tmp_path / "copy"), whole)


def test_what_is_refused_is_called_by_its_url(prepared, url):
    buckets.write(f"{url}/recipe.json", json.dumps({"recipe": {}}).encode())
    with pytest.raises(InputError, match=f"^{url}/recipe.json does not say what the run is"):
        loop.train(runs.RECIPE, runs.options(url, prepared))
    assert buckets.list_files(url) == ["recipe.json"]


@pytest.mark.skipif(not KILLS, reason="takes minutes: `make campaign`")
def test_kills_while_it_copies_lose_nothing(whole, prepared, url, tmp_path):
    """Processes that are killed at any change of the bucket; the next starts on an emptied machine, or on the same."""
    draw = random.Random(1)
    kills = run = done = 0
    while kills < KILLS:
        out = f"{url}{run}"
        process = begin("bucket_worker", 8, out, prepared, draw.randrange(120), draw.choice(["before", "after"]))
        _, errors = process.communicate()
        saved = in_bucket(out, tmp_path / "copy")
        if process.returncode == -signal.SIGKILL:
            kills += 1
            reached, _ = (newest(saved) if (saved / "checkpoints").is_dir() else None) or (0, None)
            assert reached >= done
            done = reached
            if draw.random() < 0.5:
                empty_the_machine(tmp_path)
        else:
            assert process.returncode == 0, errors
            check_same(saved, whole)
            run, done = run + 1, 0
    finish(begin("run_worker", 8, "short", f"{url}{run}", prepared))
    check_same(in_bucket(f"{url}{run}", tmp_path / "copy"), whole)
