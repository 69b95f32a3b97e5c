"""How a process finds the others: options, names in the environment, launchers, and what only looks like one."""

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from jax._src.clusters import ClusterEnv

from rvm_jax.errors import InputError
from tests.train.test_processes import ROOT
from train.device import cluster

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "localhost,other",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
A_TASK_A_NODE = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0"}
OPEN_MPI_5 = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
OPEN_MPI = OPEN_MPI_5 | {"OMPI_MCA_orte_hnp_uri": "40960.0;tcp://10.0.0.9:34911"}
NAMED = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:8476", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.2"}


@pytest.fixture
def join(monkeypatch):
    """Joins in an environment, with packages that are installed; gives how JAX was called, or what it was told."""

    def join(environment, *given, packages=(), error=None, **more):
        called = []

        def initialize(*arguments):
            called.append(arguments)
            if error:
                raise error

        jax = SimpleNamespace(
            distributed=SimpleNamespace(initialize=initialize),
            config=SimpleNamespace(update=lambda *option: called.append(option)),
        )
        monkeypatch.setattr(cluster, "jax", jax)
        monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: name in packages or None)
        monkeypatch.setattr(cluster.os, "environ", environment)
        cluster.join(*given, **more)
        return [call for call in called if call != ("jax_enable_preemption_service", False)]

    return join


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({}, ("h:1", 1, 2), ("h:1", 1, 2, None)),
        ({}, ("h:1", 1, 2, (4, 5)), ("h:1", 1, 2, (4, 5))),
        (NAMED, (), ("10.0.0.1:8476", 2, 4, None)),
        (NAMED, ("h:1", 1, 2), ("h:1", 1, 2, None)),
        (NAMED | {"JAX_PROCESS_ID": ""}, (None, 3), ("10.0.0.1:8476", 3, 4, None)),
        (NAMED | POD | {"JAX_PROCESS_ID": "", "JOB_COMPLETION_INDEX": "3"}, (), ("10.0.0.1:8476", 3, 4, None)),
        (OPEN_MPI_5, ("h:1",), ("h:1", 2, 4, [0])),
        (SLURM, ("h:1",), ("h:1", 3, 4, [1])),
        (SLURM | {"JAX_LOCAL_DEVICE_IDS": "0"}, ("h:1",), ("h:1", 3, 4, None)),  # JAX reads that
    ],
)
def test_processes_that_are_named(join, environment, given, expected):
    assert join(environment, *given) == [(*(expected[i] for i in (0, 2, 1, 3)), "deactivate")]


@pytest.mark.parametrize(
    ("environment", "packages", "expected"),
    [
        (SLURM, (), (None, 4, 3, [1], "slurm")),
        (A_TASK_A_NODE, (), (None, 4, 3, [], "slurm")),
        (OPEN_MPI, (), (None, 4, 2, [0], "ompi")),
        (OPEN_MPI | SLURM, (), (None, 4, 2, [0], "ompi")),  # mpirun may start its daemons by srun
        (OPEN_MPI_5, ("mpi4py",), (None, 4, 2, [0], "mpi4py")),
        ({}, ("libtpu",), (None, None, None, None, None)),
        (POD | {"JOB_COMPLETION_INDEX": "0"}, ("kubernetes",), (None, None, None, None, None)),
        ({"JAX_COORDINATOR_ADDRESS": "h:1"}, ("libtpu",), ("h:1", None, None, None, None)),
    ],
)
def test_processes_that_jax_finds(join, environment, packages, expected):
    assert join(environment, packages=packages) == [expected]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # sbatch without srun
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},  # the shell of salloc
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},  # srun --pty bash
        dict.fromkeys(OPEN_MPI, "1"),  # mpirun -n 1
        POD,
        POD | {"JOB_COMPLETION_INDEX": "0"},
        NAMED | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
    ],
)
def test_what_only_looks_like_a_cluster_trains_alone(join, environment):
    assert join(environment) == []
    assert join(environment, local_devices=(2, 3)) == [
        ("jax_cuda_visible_devices", "2,3"),
        ("jax_rocm_visible_devices", "2,3"),
    ]


def test_one_process_trains_alone_if_it_is_told(join):
    assert join(SLURM, process_count=1) == []
    error = ValueError("coordinator_address should be defined.")
    assert len(join({}, packages=["libtpu"], error=error)) == 1  # installed where there is no pod


@pytest.mark.parametrize(
    ("environment", "given", "message"),
    [
        (
            {},
            ("localhost:1", None, None),
            "not given is --process-id and --process-count; or else --process-count 1",
        ),
        ({}, (None, 0, 2), ": not given is --coordinator; "),
        ({}, ("localhost:1", 2, 2), "--process-id 2 of 2: expected one of 0 to 1"),
        ({}, ("localhost", 0, 2), "--coordinator localhost: expected HOST:PORT"),
        (NAMED | {"JAX_PROCESS_ID": "two"}, (), r"^\$JAX_PROCESS_ID is two: expected a number, 0 or more$"),
        (OPEN_MPI_5, (), "Open MPI 5 does not say where process 0 is: give --coordinator HOST:PORT"),
    ],
)
def test_processes_that_are_named_by_halves(join, environment, given, message):
    with pytest.raises(InputError, match=message):
        join(environment, *given)


def test_what_cannot_be_joined(join):
    error = RuntimeError("Kubernetes API Error: 403 - Forbidden\nIt appears that")
    with pytest.raises(InputError) as caught:
        join(POD | {"JOB_COMPLETION_INDEX": "0"}, packages=["kubernetes"], error=error)
    assert str(caught.value) == (
        "cannot join the other hosts (Kubernetes API Error: 403 - Forbidden): is process 0 up? --process-count 1 "
        "trains alone"
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (SLURM, [1]),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1"}, [1]),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, [4, 5, 6, 7]),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "1"}, []),  # --gpus-per-task 1
        (SLURM | {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "SLURM_GPUS_ON_NODE": "8"}, []),  # --gpus-per-task 4
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_ON_NODE": "4"}, [2, 3]),
        (A_TASK_A_NODE, []),
        (A_TASK_A_NODE | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, []),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1,3(x1),8", "SLURM_NODEID": "0"}, []),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1,3(x1),8"}, [1]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "", "ROCR_VISIBLE_DEVICES": "0,1"}, [1]),
        (OPEN_MPI | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, [0, 1]),
    ],
)
def test_the_gpus_of_a_task(environment, expected):
    assert cluster.own_devices(cluster.launched(environment), environment) == expected


@pytest.mark.parametrize(("environment", "address"), [(A_TASK_A_NODE, "localhost:61447"), (OPEN_MPI, "10.0.0.9:61450")])
def test_jax_finds_the_coordinator_and_leaves_the_gpus_alone(join, monkeypatch, environment, address):
    ((coordinator, count, number, devices, method),) = join(environment)
    monkeypatch.setattr(os, "environ", environment)
    found = ClusterEnv.auto_detect_unset_distributed_params(coordinator, count, number, devices, method, 1)
    assert found == (address, count, number, devices)


@pytest.mark.slow
def test_two_tasks_of_slurm(tmp_path):
    """On this machine, a task a node: what srun says is all that they are given.

    They answer in files, since Gloo prints between the pieces of a line.
    """
    with socket.create_server(("localhost", 0)) as server:
        port = str(server.getsockname()[1])
    program = (
        "import jax, sys; from train.device import cluster; cluster.join()\n"
        "from jax.experimental import multihost_utils\n"
        "found = multihost_utils.process_allgather(jax.process_index())\n"
        "open(sys.argv[1], 'w').write(f'{jax.process_index()} {jax.process_count()} {found}')"
    )
    environment = {**os.environ, **A_TASK_A_NODE, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_PORT": port}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / str(number))],
            cwd=ROOT,
            env=environment | {"SLURM_PROCID": str(number), "SLURM_NODEID": str(number)},
        )
        for number in range(2)
    ]
    assert [task.wait(timeout=120) for task in tasks] == [0, 0]
    assert [(tmp_path / str(number)).read_text() for number in range(2)] == ["0 2 [0 1]", "1 2 [0 1]"]
