"""Provenance of a run: versions, revision of the code, devices, flags."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from train.tracking import metrics_file

PACKAGES = (
    "rvm-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "tensorflow",
    "tensorflow-datasets",
)

ROUNDING = ("devices", "xla_flags", "matmul_precision", "rvm-jax", "revision", *PACKAGES[1:])
"""What of it decides how numbers are rounded."""


def provenance() -> dict[str, Any]:
    """The time now, and what else a person would ask about a run that cannot be repeated."""
    devices = jax.devices()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "devices": f"{len(devices)} × {devices[0].device_kind}",
        "hosts": jax.process_count(),
        "platform": devices[0].platform,
        "xla_flags": " ".join(sorted(os.environ.get("XLA_FLAGS", "").split())),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",  # type: ignore[attr-defined, unused-ignore]
        "system": platform.platform(),
        "revision": revision(Path(__file__).parents[2]),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def changes(folder: Path) -> list[str]:
    """What decides how numbers are rounded and is not as in the last session of the folder's run: a line, or none."""
    before = metrics_file.sessions(folder / metrics_file.SESSIONS)[-1:]
    if not before:
        return []
    then, now = ({**one, **one["versions"]} for one in (before[0], provenance()))
    differing = [
        f"{name.replace('_', ' ')}: {then[name] or 'none'} before, {now.get(name) or 'none'} now"
        for name in ROUNDING
        if name in then and then[name] != now.get(name)
    ]
    return [f"it goes on with other rounding, not bit for bit ({'; '.join(differing)})"] if differing else []


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision(folder: Path) -> str | None:
    """The commit that is checked out, with `-dirty` if it was changed; None for an installed package."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
