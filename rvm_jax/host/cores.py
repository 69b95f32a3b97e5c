"""The number of cores that this process may use: its affinity, and the quotas of its control groups."""

import math
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath


def cores() -> int:
    """The cores that this process may use, 1 or more. A container's quota of 7.5 cores counts as 8."""
    allowed, quota = len(_allowed()), cgroup_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def described() -> str:
    """Which machine's cores they are: the same in processes that share them."""
    return f"{socket.gethostname()}: {sorted(_allowed())}"


def _allowed() -> Collection[int]:
    """The numbers of the cores on which this process may run: of all, where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """How many cores' time the control groups of this process allow, of version 1 or 2; None without a limit.

    A group has no more than each of those that it is in. `root` is where /proc and /sys are.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return None
    mount = root / "sys/fs/cgroup"
    quotas = []
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota_of_version_2(folder) for folder in _with_parents(mount, path)]
        elif "cpu" in controllers.split(","):
            # Docker shows a container no other group than its own, at the top, and yet tells the group's path outside.
            for name in {controllers, "cpu"}:
                quotas += [_quota_of_version_1(folder) for folder in _with_parents(mount / name, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _with_parents(mount: Path, path: str) -> Iterator[Path]:
    """The folders of a group and of all that it is in."""
    group = PurePosixPath(path.lstrip("/"))
    yield from (mount / folder for folder in (group, *group.parents))


def _quota_of_version_2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")  # "max 100000" or "150000 100000"
    return _cores(*words) if len(words) == 2 else None


def _quota_of_version_1(folder: Path) -> float | None:
    quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))  # -1 is no limit
    return _cores(*quota, *period) if quota and period else None


def _cores(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
