"""Where compiled programs are kept, and that a second start finds them there."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.compilation_cache import enable_compilation_cache
from tests import fake_bucket

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(autouse=True)
def config(monkeypatch, tmp_path):
    """JAX as it is without settings, and a cache folder for the test."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_enable_xla_caches",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("EPATH_USE_TF", "1")
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("may", [True, False])
def test_a_folder_where_nothing_can_be_written_is_read(tmp_path, monkeypatch, capsys, may):
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: access(path, mode) and (may or not mode & os.W_OK))
    enable_compilation_cache(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    assert (jax.config.jax_persistent_cache_min_compile_time_secs > 1e6) == (not may)
    told = "" if may else f"nothing can be written in {tmp_path}: programs that it lacks are not kept\n"
    assert capsys.readouterr().err == told


PLACES = {  # given, JAX's own setting, the default of the command; the place
    "nothing": (None, None, None, "rvm-jax/compiled"),
    "a default": (None, None, "there", "there"),
    "a setting": (None, "set", "there", "set"),
    "given": ("given", "set", "there", "given"),
    "a bucket": ("gs://b/cache", "set", "there", "gs://b/cache"),
}


@pytest.mark.parametrize("case", PLACES)
def test_the_place(case, config, monkeypatch, tmp_path):
    given, setting, default, place = PLACES[case]
    monkeypatch.setattr(buckets, "read", lambda _: None)
    config.update("jax_compilation_cache_dir", setting)
    enable_compilation_cache(given, default=default)
    assert config.jax_compilation_cache_dir in (place, str(tmp_path / place))
    assert (os.environ["EPATH_USE_TF"] == "0") == (case == "a bucket")
    assert (config.jax_persistent_cache_enable_xla_caches == "none") == (case == "a bucket")


def test_a_bucket_that_cannot_be_reached_is_told_and_done_without(config, monkeypatch, tmp_path, capsys):
    def fail(url):
        raise InputError(f"cannot read {url}: the network is down")

    monkeypatch.setattr(buckets, "read", fail)
    enable_compilation_cache("gs://b/cache")
    assert config.jax_compilation_cache_dir == str(tmp_path / "rvm-jax" / "compiled")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot read gs://b/cache/")
    assert line.endswith("the network is down; programs are compiled anew, and kept on this machine")


HOST = """
import collections, json, sys
import jax
from rvm_jax.host.compilation_cache import enable_compilation_cache
url, coordinator, number = sys.argv[1:]
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))
jax.distributed.initialize(coordinator, 2, int(number), cluster_detection_method="deactivate")
enable_compilation_cache(url)
total = jax.pmap(lambda x: jax.lax.psum(x, "hosts"), axis_name="hosts")(jax.numpy.ones(1))
assert float(total.addressable_shards[0].data[0]) == 2
print(json.dumps(events))
"""


def start_two_hosts(url, tmp_path, start):
    """What the caches of two hosts that have no disk in common counted."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{found.getsockname()[1]}"
    settings = {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, url, coordinator, str(number)],
            cwd=ROOT,
            env={**os.environ, **settings, "XDG_CACHE_HOME": str(tmp_path / f"{start}{number}")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    counts = [json.loads(host.communicate()[0].splitlines()[-1]) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0]
    return counts


@pytest.mark.slow
def test_a_second_start_finds_the_programs_in_the_bucket(tmp_path):
    """The first host does, which alone writes any. On CPUs the other cannot: their programs have other names there."""
    with fake_bucket.serving(tmp_path / "log") as bucket:
        first, _ = start_two_hosts(f"{bucket}/cache", tmp_path, "first")
        second, _ = start_two_hosts(f"{bucket}/cache", tmp_path, "second")
        assert any(name.endswith("-cache") for name in buckets.list_files(f"{bucket}/cache"))
    assert first["compile_requests_use_cache"] > 0
    assert "cache_hits" not in first
    assert second["cache_hits"] == second["compile_requests_use_cache"]
