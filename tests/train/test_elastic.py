"""A run that goes on with other numbers of devices and hosts is the run that it would have been."""

import os
import subprocess
import sys

import jax
import pytest

from tests.data_pipelines import conftest
from tests.train import elastic_worker, runs
from tests.train.test_processes import begin, coordinator, finish, wait_for

prepared, coordinator = conftest.prepared, coordinator


def differences(out, whole):
    """The largest relative difference of a number that two runs have recorded, line by line."""
    ours, theirs = runs.recorded(out), runs.recorded(whole)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    return [
        max(abs(line[name] - value) / max(abs(value), 1e-9) for name, value in expected.items())
        for line, expected in zip(ours, theirs, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.usefixtures("small_network")
def test_eight_devices_then_four_on_two_hosts_then_one(prepared, tmp_path, coordinator, monkeypatch, capsys):
    """In float64, and in two parts: losses, gradients and validations are those of eight devices all through."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    elastic_worker.train("short", whole, prepared, 0)
    elastic_worker.train("short", out, prepared, 1)
    outs = [out, tmp_path / "second"]
    hosts = [begin("elastic_worker", 2, "short", outs[i], prepared, 2, coordinator, i, 2) for i in range(2)]
    first, second = map(finish, hosts)
    assert "on 4 × cpu" in first
    assert "a batch of 16 clips is computed in 2 parts of 8" in first
    assert "stopped and saved after 2 of 3" in second
    assert not outs[1].exists()  # the first alone reads and writes
    device = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: device)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    capsys.readouterr()
    elastic_worker.train("short", out, prepared, 0)
    assert "on 1 × cpu" in (told := capsys.readouterr().err)
    assert "going on after 2" in told
    assert max(differences(out, whole)) < 1e-10  # 7e-15 was seen


@pytest.mark.skipif("RVM_KILLS" not in os.environ, reason="takes half an hour: `make campaign`")
@pytest.mark.longest
def test_the_demo_is_killed_and_goes_on_with_other_devices(tmp_path, coordinator):
    """Through all four stages of the demo in float64, where rounding hardly grows."""
    data, whole, out = tmp_path / "data", tmp_path / "whole", tmp_path / "out"
    prepare = [sys.executable, "-c", "from rvm_jax.cli.main import main; main()", "data", "prepare", "synthetic"]
    subprocess.run([*prepare, "--data-dir", str(data)], check=True)
    finish(begin("elastic_worker", 8, "demo", whole, data, 0))
    process = begin("elastic_worker", 8, "demo", out, data, 0)
    wait_for(process, out, 6)
    process.kill()
    process.communicate()
    for host in [begin("elastic_worker", 2, "demo", out, data, 14, coordinator, number, 2) for number in range(2)]:
        finish(host)
    assert "going on after 14" in finish(begin("elastic_worker", 1, "demo", out, data, 0))
    found = differences(out, whole)
    print(f"the largest relative differences, line by line: {found}")
    assert max(found) < 1e-6
