"""The device that commands compute on: chosen, told, and its memory left to others."""

import os
import subprocess
import sys

import jax
import pytest

from rvm_jax.cli import devices
from rvm_jax.errors import InputError


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")
    before = jax.config.jax_default_device
    yield
    jax.config.update("jax_default_device", before)


def test_a_device_is_chosen_by_its_number_or_kind():
    devices.choose("3")
    assert jax.device_put(1.0).devices() == {jax.devices()[3]}
    assert devices.choose("cpu").startswith("the CPU (")
    assert jax.device_put(1.0).devices() == {jax.devices()[0]}


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "^--device gpu: JAX finds none here; JAX for one comes with pip install 'rvm-jax\\[cuda\\]'$"),
        ("8", r"^--device 8: there is none of that number, only 0 \(cpu\), 1 \(cpu\)"),
        ("mps", "^--device mps: expected cpu, gpu, tpu, or the number of a device, from 0 on$"),
        ("-1", "^--device -1: expected"),
    ],
)
def test_what_is_not_there_is_told(device, message):
    with pytest.raises(InputError, match=message):
        devices.choose(device)


def test_a_gpu_that_is_not_used_is_told_unless_it_was_asked(tmp_path, monkeypatch):
    assert "NVIDIA" not in devices.choose(None)
    (tmp_path / "version").touch()
    monkeypatch.setattr(devices, "NVIDIA", tmp_path / "version")
    assert devices.choose(None).endswith("an NVIDIA GPU is here, but this JAX has no CUDA: pip install 'rvm-jax[cuda]'")
    assert "NVIDIA" not in devices.choose("cpu")


@pytest.mark.parametrize(
    ("command", "user"), [("matte", None), pytest.param("serve", None, marks=pytest.mark.slow), ("matte", "true")]
)
def test_memory_is_not_taken_in_advance_unless_the_user_says_so(command, user, tmp_path):
    """What JAX is to find when it starts: each command ends at weights that are none."""
    program = (
        "import os, sys\nfrom rvm_jax.cli.main import main\n"
        "main(sys.argv[1:])\nprint(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'])"
    )
    arguments = [command, *(["in.mp4", "out.mp4"] if command == "matte" else []), "--weights", "none.pth"]
    for name in ("in.mp4", "none.pth"):
        (tmp_path / name).touch()
    environment = {key: value for key, value in os.environ.items() if key != "XLA_PYTHON_CLIENT_PREALLOCATE"}
    environment |= {} if user is None else {"XLA_PYTHON_CLIENT_PREALLOCATE": user}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        cwd=tmp_path,
    )
    assert result.stdout.splitlines()[-1] == (user or "false"), result.stderr
