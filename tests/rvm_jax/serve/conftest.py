"""A service within the tests' process, and `rvm serve` as a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rvm_jax.serve import jobs
from rvm_jax.serve.jobs import Service
from rvm_jax.serve.uploads import Limits
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny
from tests.rvm_jax.serve.servers import COUNT, Server, ended, started


@pytest.fixture
def service(matte) -> Iterator[Service]:
    with jobs.serving(matte, Limits(megabytes=1, seconds=10, side=100, waiting=4)) as service:
        yield service


@pytest.fixture(scope="session")
def network(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def server(network, tmp_path_factory) -> Iterator[Server]:
    limits = ["--max-megabytes", "1", "--max-seconds", "120", "--max-side", "200", "--max-waiting", "60"]
    server = started(network, tmp_path_factory.mktemp("server") / "tmp", *limits)
    try:
        yield server
        ended(server)
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    return videos.write(tmp_path_factory.mktemp("clips") / "clip.mp4", videos.moving(COUNT), rate=10)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    return videos.write(tmp_path_factory.mktemp("clips") / "clip.mp4", videos.moving(5), rate=10).read_bytes()
