"""Provenance of a run: versions, revision of the code, devices."""

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

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


def provenance() -> dict[str, Any]:
    """The time now, and what else a person would ask about a run that cannot be repeated."""
    devices = jax.devices()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "devices": f"{len(devices)} × {devices[0].device_kind}",
        "hosts": jax.process_count(),
        "platform": devices[0].platform,
        "system": platform.platform(),
        "revision": revision(Path(__file__).parents[2]),
        "versions": {"python": platform.python_version(), **_versions()},
    }


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
