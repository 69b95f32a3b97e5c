"""A bucket from end to end: prepared data go there, a run there is killed and goes on elsewhere, its weights go on."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

import rvm_jax
from data_pipelines.tools import upload
from rvm_jax.cli.main import main
from rvm_jax.host import bucket_lock, buckets
from tests import fake_bucket
from tests.data_pipelines import conftest
from tests.killed_bucket import Killed, at_change, raise_killed
from tests.rvm_jax.conftest import write_tiny
from tests.train import conftest as training
from tests.train import runs
from train import loop

bucket = fake_bucket.bucket
prepared = conftest.prepared
small_network = training.small_network
FIRST, *OTHERS = runs.RECIPE.stages
SHORT = replace(runs.RECIPE, stages=(replace(FIRST, iterations=3), *(replace(stage, iterations=0) for stage in OTHERS)))


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_from_prepared_data_to_a_network_in_a_bucket(bucket, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bucket_lock, "MOMENT", 0)
    for role in conftest.TINY:
        upload.upload(f"synthetic/tiny_{role}", prepared, f"{bucket}/data", overwrite=False)
    start, run = f"{bucket}/start", f"{bucket}/run"
    assert main(["convert", str(write_tiny(tmp_path)), start]) == 0

    with monkeypatch.context() as patched:
        at_change(patched, 0, raise_killed, names="checkpoints/3/")
        with pytest.raises(Killed):
            loop.train(replace(SHORT, init=start), runs.options(run, f"{bucket}/data"))
    shutil.rmtree(tmp_path / "cache")  # another machine
    buckets.remove(run, ["lock"])  # as if a minute had passed
    loop.train(replace(SHORT, init=start), runs.options(run, f"{bucket}/data"))
    loop.train(replace(SHORT, init=tmp_path / "tiny"), runs.options(tmp_path / "here", prepared))
    buckets.download(run, tmp_path / "there", ["metrics.jsonl"])
    assert runs.recorded(tmp_path / "there") == runs.recorded(tmp_path / "here")

    assert main(["convert", run, f"{bucket}/end.safetensors"]) == 0
    assert main(["convert", f"{bucket}/end.safetensors", str(tmp_path / "end.pth")]) == 0
    ours, theirs = rvm_jax.load(tmp_path / "end.pth"), rvm_jax.load(tmp_path / "here")
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
