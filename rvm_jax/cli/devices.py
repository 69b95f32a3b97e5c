"""The device that a command computes on: chosen by `--device`, told at the start, its memory not taken in advance."""

import os
from pathlib import Path

from rvm_jax.errors import InputError

KINDS = ("cpu", "gpu", "tpu")
NVIDIA = Path("/proc/driver/nvidia/version")
"""What NVIDIA's driver shows on Linux."""


def take_memory_as_needed() -> None:
    """Leave what is not needed of a GPU's memory to others, such as an editor; JAX would take three quarters at once.

    To be called before JAX computes anything. What the user has set stays.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def check(device: str | None) -> None:
    """Refuse what is the name of no device; whether it is here only JAX knows."""
    if device is not None and device not in KINDS and not device.isdecimal():
        raise InputError(f"--device {device}: expected cpu, gpu, tpu, or the number of a device, from 0 on")


def choose(device: str | None) -> str:
    """Compute on the first `cpu`, `gpu` or `tpu`, or on the device of this number; returns what to tell of it."""
    take_memory_as_needed()
    check(device)
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")  # others are not even looked for
    try:
        there = jax.devices(device if device in KINDS else None)
    except (RuntimeError, AssertionError) as error:  # so JAX tells that there is none
        extra = {"gpu": "cuda", "tpu": "tpu"}.get(device or "")
        mend = f"; JAX for one comes with pip install 'rvm-jax[{extra}]'" if extra else ""
        asked = f"--device {device}" if device else f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        raise InputError(f"{asked}: JAX finds none here{mend}") from error
    number = int(device) if device is not None and device.isdecimal() else 0
    if number >= len(there):
        names = ", ".join(f"{number} ({one.device_kind})" for number, one in enumerate(there))
        raise InputError(f"--device {device}: there is none of that number, only {names}")
    if device is not None:
        jax.config.update("jax_default_device", there[number])
    return _told(there[number].platform, there[number].device_kind, asked=device is not None)


def _told(platform: str, name: str, *, asked: bool) -> str:
    if platform != "cpu":
        return name
    from rvm_jax.host.cores import cores

    told = f"the CPU ({cores()} cores)"
    if not asked and NVIDIA.exists():
        told += "; an NVIDIA GPU is here, but this JAX has no CUDA: pip install 'rvm-jax[cuda]'"
    return told
