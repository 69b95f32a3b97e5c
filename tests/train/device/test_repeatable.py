"""The flag that makes GPUs repeatable: set where it counts, and nowhere else."""

import os
import sys

import pytest

from train.device import repeatable


@pytest.mark.parametrize(
    ("gpus", "given", "then"),
    [
        (True, None, "--xla_gpu_exclude_nondeterministic_ops=true"),
        (True, "--xla_dump_to=x", "--xla_dump_to=x --xla_gpu_exclude_nondeterministic_ops=true"),
        (True, "--xla_gpu_exclude_nondeterministic_ops=false", "--xla_gpu_exclude_nondeterministic_ops=false"),
        (True, "--xla_gpu_deterministic_ops=true", "--xla_gpu_deterministic_ops=true"),
        (True, "flags.txt", "flags.txt"),  # XLA reads them from that file
        (False, None, None),
    ],
)
def test_the_flag_is_added_for_gpus_unless_the_user_has_his_own(monkeypatch, gpus, given, then):
    monkeypatch.setattr(repeatable, "compiles_for_gpus", lambda: gpus)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given is not None:
        monkeypatch.setenv("XLA_FLAGS", given)
    repeatable.set_flags()
    assert os.environ.get("XLA_FLAGS") == then


@pytest.mark.parametrize(("plugins", "expected"), [(["xla_cuda13"], True), (["other"], False), ([], False)])
def test_gpus_are_known_by_jax_s_plugin(monkeypatch, tmp_path, plugins, expected):
    for name in plugins:
        (tmp_path / "jax_plugins" / name).mkdir(parents=True)
        (tmp_path / "jax_plugins" / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jax_plugins", raising=False)
    assert repeatable.compiles_for_gpus() == expected
