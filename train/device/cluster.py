"""Joining the other processes of a run: as they are named by options or by the environment, or as JAX finds them.

JAX (0.10 to 0.12) knows SLURM, Open MPI before 5 (later ones with the package `mpi4py`), TPU pods, and Jobs and JobSets
of Kubernetes if it has the package `kubernetes` and the right to ask. An environment that only looks like one of
these, such as a shell in a SLURM job, has a single process and trains alone.
"""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from rvm_jax.errors import InputError

COORDINATOR, PROCESS_ID, PROCESS_COUNT = "JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID", "JAX_NUM_PROCESSES"
"""The first is JAX's own; the others are called as its arguments, which no variable of JAX gives."""
VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class Task(NamedTuple):
    """This process as its launcher counts it: among all processes, and among those of its machine.

    Attributes:
        method: What JAX calls the launcher, to find the coordinator; None if it cannot.
        number: From 0.
        of: How many there are, at least 2.
        local_number: From 0.
        local_of: 0 if it is not known.
    """

    method: str | None
    number: int
    of: int
    local_number: int
    local_of: int


def join(
    coordinator: str | None = None,
    process_id: int | None = None,
    process_count: int | None = None,
    local_devices: Sequence[int] | None = None,
) -> None:
    """Join the other processes of this run, if there are any. To be called before JAX computes anything."""
    environment = os.environ
    task = launched(environment)
    coordinator = coordinator or environment.get(COORDINATOR)
    process_id = _number(environment, PROCESS_ID) if process_id is None else process_id
    process_count = _number(environment, PROCESS_COUNT) if process_count is None else process_count
    if process_id is None and coordinator is not None:
        process_id = task.number if task else _number(environment, "JOB_COMPLETION_INDEX")  # of an Indexed Job
    if process_count is None and coordinator is not None and task:
        process_count = task.of
    named = (coordinator, process_id, process_count)
    found = None in named and _may_be_found(environment)
    if process_count == 1 or not (task or found or any(value is not None for value in named)):
        _use_alone(local_devices)
        return
    if local_devices is None and task and "JAX_LOCAL_DEVICE_IDS" not in environment:
        local_devices = own_devices(task, environment)
    # Its notice of a SIGTERM; `hosts` hears of more signals.
    jax.config.update("jax_enable_preemption_service", False)
    if task and named == (None, None, None):
        if task.method is None:
            raise InputError(
                "Open MPI 5 does not say where process 0 is: give --coordinator HOST:PORT (or "
                f"`mpirun -x {COORDINATOR}=HOST:PORT`), or install mpi4py"
            )
        _initialize(None, task.number, task.of, local_devices, task.method)
    elif found:
        _initialize(*named, local_devices, None)
    else:
        _check(*named)
        # JAX shall not ask a launcher as well, by which each task has a single GPU.
        _initialize(*named, local_devices, "deactivate")


def launched(environment: Mapping[str, str]) -> Task | None:
    """This process as `mpirun` or `srun` has started it, if together with others."""

    def number(name: str, default: int = 0) -> int:
        return int(environment.get(name, default))

    # First, since mpirun may start its own daemons by srun.
    if number("OMPI_COMM_WORLD_SIZE") > 1:
        legacy = "OMPI_MCA_orte_hnp_uri" in environment
        return Task(
            "ompi" if legacy else "mpi4py" if importlib.util.find_spec("mpi4py") else None,
            number("OMPI_COMM_WORLD_RANK"),
            number("OMPI_COMM_WORLD_SIZE"),
            number("OMPI_COMM_WORLD_LOCAL_RANK"),
            number("OMPI_COMM_WORLD_LOCAL_SIZE"),
        )
    # In a shell of a job, the second is of the whole job, and only the first is 1 or not there.
    count = number("SLURM_STEP_NUM_TASKS", number("SLURM_NTASKS"))
    if "SLURM_STEP_NODELIST" not in environment or count < 2:
        return None
    repeated = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    of_nodes = [int(tasks) for tasks, nodes in repeated for _ in range(int(nodes or 1))]  # 2(x3),1
    node = number("SLURM_NODEID")
    local_count = of_nodes[node] if node < len(of_nodes) else 0
    return Task("slurm", number("SLURM_PROCID"), count, number("SLURM_LOCALID"), local_count)


def own_devices(task: Task, environment: Mapping[str, str]) -> list[int]:
    """The GPUs of a task, numbered as it sees them; none stands for all that it sees."""
    seen = next((environment[name] for name in VISIBLE_DEVICES if name in environment), None)
    if task.local_of == 1:
        return []
    if seen is None:
        return [task.local_number]  # as JAX has it: a task for each GPU
    count = len(seen.split(","))
    if count < max(task.local_of, int(environment.get("SLURM_GPUS_ON_NODE", count))):
        return []  # it sees no GPU of another task
    share = count // max(task.local_of, 1) if task.local_of else 1
    return list(range(task.local_number * share, (task.local_number + 1) * share))


def _may_be_found(environment: Mapping[str, str]) -> bool:
    """Whether this may be part of a TPU pod, or of a Job of Kubernetes that JAX can ask about."""
    in_job = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
    return any(importlib.util.find_spec(name) for name in ("libtpu", *["kubernetes"] * in_job))


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text and not text.isdecimal():
        raise InputError(f"${name} is {text}: expected a number, 0 or more")
    return int(text) if text else None


def _check(coordinator: str | None, process_id: int | None, process_count: int | None) -> None:
    given = {"--coordinator": coordinator, "--process-id": process_id, "--process-count": process_count}
    missing = [option for option, value in given.items() if value is None]
    if missing:
        raise InputError(
            f"several hosts need {', '.join(given)}: not given is {' and '.join(missing)}; or else --process-count 1"
        )
    if process_id is not None and process_count is not None and not 0 <= process_id < process_count:
        raise InputError(f"--process-id {process_id} of {process_count}: expected one of 0 to {process_count - 1}")
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise InputError(f"--coordinator {coordinator}: expected HOST:PORT, such as 10.0.0.1:8476")


def _use_alone(local_devices: Sequence[int] | None) -> None:
    if local_devices is not None:
        for platform in ("cuda", "rocm"):
            jax.config.update(f"jax_{platform}_visible_devices", ",".join(map(str, local_devices)))


def _initialize(
    coordinator: str | None,
    process_id: int | None,
    process_count: int | None,
    local_devices: Sequence[int] | None,
    method: str | None,
) -> None:
    """As `jax.distributed.initialize`, to which no local devices, not None, are all of them."""
    try:
        jax.distributed.initialize(coordinator, process_count, process_id, local_devices, method)
    except Exception as error:  # what asks Kubernetes or Google Cloud may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if method is None and "coordinator_address should be defined" in reason:
            return  # libtpu is installed, but this machine is not part of a pod
        where = "the other hosts" if coordinator is None else f"the other hosts at {coordinator}"
        raise InputError(f"cannot join {where} ({reason}): is process 0 up? --process-count 1 trains alone") from error
