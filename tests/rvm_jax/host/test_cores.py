import os

import pytest

from rvm_jax.host import cores

UNLIMITED = "max 100000"
CASES = {
    "version 2": ({"cpu.max": "150000 100000"}, "0::/", 1.5),
    "version 2, no limit": ({"cpu.max": UNLIMITED}, "0::/", None),
    "version 2, in a group": (
        {"a/b/cpu.max": UNLIMITED, "a/cpu.max": "200000 50000", "c/cpu.max": "1 1"},
        "0::/a/b",
        4,
    ),
    "version 2, the tightest": ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "200000 100000"}, "0::/a/b", 2),
    "version 1": (
        {"cpu,cpuacct/job/cpu.cfs_quota_us": "750000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"},
        "5:memory:/m\n4:cpu,cpuacct:/job",
        7.5,
    ),
    "version 1, no limit": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", None),
    "version 1, in a container": (
        {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
        "3:cpuacct,cpu:/docker/4a",
        2,
    ),
    "no such files": ({}, "0::/x", None),
}


@pytest.mark.parametrize(("files", "memberships", "expected"), CASES.values(), ids=CASES)
def test_quotas_of_control_groups(files, memberships, expected, tmp_path):
    for name, text in {f"sys/fs/cgroup/{name}": text for name, text in files.items()}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"{memberships}\n")
    assert cores.cgroup_quota(tmp_path) == expected


def test_other_systems_have_no_control_groups(tmp_path):
    assert cores.cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (64.0, 8), (2.5, 3), (0.25, 1)])
def test_cores_are_what_both_affinity_and_quota_allow(quota, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
    assert cores.cores() == expected
