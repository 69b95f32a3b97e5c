"""A run that goes on with other numbers of devices and hosts is the run that it would have been."""

import numpy as np
import pytest

from tests.data_pipelines import conftest
from tests.train import runs
from tests.train.test_processes import begin, coordinator, finish, newest

prepared, coordinator = conftest.prepared, coordinator


@pytest.mark.slow
@pytest.mark.longest
def test_eight_devices_then_four_on_two_hosts_then_one(prepared, tmp_path, coordinator):
    """In float64, and in two parts: losses, gradient norms and validations are those of eight devices all through."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    finish(begin("elastic_worker", 8, whole, prepared, 0))
    finish(begin("elastic_worker", 8, out, prepared, 2))
    hosts = [begin("elastic_worker", 2, out, prepared, 4, coordinator, number, 2) for number in range(2)]
    told = [finish(process) for process in hosts]
    assert "on 4 × cpu" in told[0]
    assert "stopped and saved after 4 of 6" in told[1]
    assert "going on after 4" in finish(begin("elastic_worker", 1, out, prepared, 0))
    ours, theirs = runs.recorded(out), runs.recorded(whole)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    furthest = 0.0
    for line, expected in zip(ours, theirs, strict=True):
        for name, value in expected.items():
            furthest = max(furthest, abs(line[name] - value) / max(abs(value), 1e-12))
    print("furthest", furthest)
    assert furthest < 1e-9
