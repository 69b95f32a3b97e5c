"""A bucket from end to end: data are prepared and copied there, a network is trained on them, its weights go there."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

import rvm_jax
from data_pipelines.tools import upload
from rvm_jax.cli.main import main
from tests import fake_bucket
from tests.data_pipelines import conftest
from tests.rvm_jax.conftest import write_tiny
from tests.train import runs
from train import loop

prepared = conftest.prepared
FIRST, *OTHERS = runs.RECIPE.stages
SHORT = replace(
    runs.RECIPE,
    stages=(replace(FIRST, iterations=2), *(replace(stage, iterations=0) for stage in OTHERS)),
    init="gs://bucket/start",
)


@pytest.fixture
def bucket(tmp_path) -> Iterator[str]:
    with fake_bucket.serving(tmp_path / "log") as url:
        yield url


@pytest.mark.slow
def test_from_prepared_data_to_a_network_in_a_bucket(bucket, prepared, tmp_path):
    for role in conftest.TINY:
        upload.upload(f"synthetic/tiny_{role}", prepared, f"{bucket}/data", overwrite=False)
    assert main(["convert", str(write_tiny(tmp_path)), f"{bucket}/start"]) == 0

    loop.train(SHORT, runs.options(tmp_path / "run", f"{bucket}/data"))
    loop.train(replace(SHORT, init=tmp_path / "tiny"), runs.options(tmp_path / "here", prepared))
    assert runs.recorded(tmp_path / "run") == runs.recorded(tmp_path / "here")

    assert main(["convert", str(tmp_path / "run"), f"{bucket}/end.safetensors"]) == 0
    assert main(["convert", f"{bucket}/end.safetensors", str(tmp_path / "end.pth")]) == 0
    assert rvm_jax.load(tmp_path / "end.pth").network == rvm_jax.load(f"{bucket}/end.safetensors").network
