"""The files of `cloud/`: they start and stop `rvm` as the systems for which they are written do."""

import fnmatch
import os
import re
import shlex
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from kubernetes.client import V1JobSpec

from rvm_jax.cli.main import main
from tests import test_docs

ran = test_docs.ran
ROOT = Path(__file__).parent.parent
CLOUD = ROOT / "cloud"


def commands(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment in which these names are shell scripts."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def run_batch(folder: Path, status: int) -> tuple[int, str, str]:
    """The batch script with a run that ends so: its own status, what it asked `rvm` for, and what SLURM."""
    environment = commands(
        folder / "bin",
        rvm=f'echo "$@" > {folder}/rvm; exit {status}',
        srun='exec "$@"',
        scontrol=f'echo "$@" > {folder}/scontrol',
    )
    command = ["bash", CLOUD / "train.sbatch", "mobilenetv3", "--out", "runs/first"]
    done = subprocess.run(command, env={**environment, "SLURM_JOB_ID": "7"})
    asked = folder / "scontrol"
    return done.returncode, (folder / "rvm").read_text(), asked.read_text() if asked.exists() else ""


def test_slurm_starts_a_run_again_that_was_stopped(tmp_path, ran):
    status, started, asked = run_batch(tmp_path, 75)
    assert main(shlex.split(started)) == 0
    assert started == "train mobilenetv3 --out runs/first --requeue-status 75\n"
    assert (status, asked) == (75, "requeue 7\n")


@pytest.mark.parametrize("status", [0, 2])
def test_slurm_does_not_start_a_run_again_that_ended_or_failed(tmp_path, status):
    assert run_batch(tmp_path, status)[::2] == (status, "")


def test_kubernetes_knows_all_that_the_jobset_says(ran):
    """That of the set itself is checked by its names; the job in it by the models of Kubernetes' own client."""
    jobset = yaml.safe_load((CLOUD / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (hosts,) = jobset["spec"]["replicatedJobs"]
    spec = hosts["template"]["spec"]
    assert V1JobSpec.from_dict(spec).model_dump(by_alias=True, exclude_none=True) == spec

    (container,) = spec["template"]["spec"]["containers"]
    assert main(container["args"]) == 0
    assert ran == ["mobilenetv3"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    address = f"{jobset['metadata']['name']}-{hosts['name']}-0-0.{jobset['metadata']['name']}:"
    assert environment["JAX_COORDINATOR_ADDRESS"].startswith(address)
    assert environment["JAX_NUM_PROCESSES"] == str(spec["completions"]) == str(spec["parallelism"])
    assert "JAX_PROCESS_ID" in environment
    stopped = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert stopped == [128 + signal.SIGTERM]


def test_the_container_installs_what_there_is():
    dockerfile = (CLOUD / "Dockerfile").read_text()
    ignored = (CLOUD / "Dockerfile.dockerignore").read_text().split()
    copied = [name for line in re.findall(r"^COPY (.*)$", dockerfile, re.M) for name in shlex.split(line)[:-1]]
    assert all((ROOT / name).exists() and f"!{name}" in ignored for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert all(any(fnmatch.fnmatch(name, pattern) for name in copied) for pattern in packages)
    stages = {
        name: (base, text)
        for base, name, text in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", dockerfile, re.M | re.S)
    }
    installed = [extra for _, text in stages.values() for extra in re.findall(r"'\.\[(.*)\]'", text)]
    assert {name for name, (_, text) in stages.items() if "pip install" in text} == {
        "cpu",
        "tpu",
        "cuda",
        "serve",
        "serve-cuda",
    }
    assert all(extra in project["project"]["optional-dependencies"] for one in installed for extra in one.split(","))
    for base, text in stages.values():
        if "pip install" in text:
            assert 'ENTRYPOINT ["rvm"]' in text + stages[base][1]
