"""How a run is carried out: all of it may be another when a run goes on."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rvm_jax.errors import InputError
from rvm_jax.host.paths import data_folder

WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class Options:
    """How a run is carried out.

    Attributes:
        out: The run's folder, or its URL in a bucket (gs://… or s3://…). Training goes on where it stopped if the
            folder has a run of the same recipe; what begins later, such as a later stage, may have changed.
        data_dir: Where prepared datasets are, a bucket (gs://) too; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        data_processes: Worker processes that make clips; 0: threads do. By default, one a core of more than 8.
        data_threads: Clips that each worker process makes at a time, or this one where there are none.
        wandb: Whether the run is mirrored in Weights & Biases. auto: online where W&B finds a key, else offline.
        wandb_project: The W&B project of the run, which has the name of its folder there. By default, that which
            $WANDB_PROJECT names, or rvm-jax; W&B's other variables count as well.
        wandb_artifacts: Also give W&B the weights and the report that the run ends with, as artifacts.
        profile: Iterations that JAX's profiler traces, to OUT/profile; 100:110 are ten, from the one numbered 100 on.
        save_every: Iterations between checkpoints.
        validate_every: Iterations between validations; each stage ends with one, too.
        keep: How many checkpoints are kept, apart from the best one.
        clips_per_device: Clips that each device computes at a time; this makes the batch, in place of --batch. A run
            that goes on keeps its batch, and takes more or fewer parts (see --accumulation).
        remat: Compute intermediate results twice instead of keeping them: slower, in much less memory.
        accumulation: In how many parts a batch is computed, one after the other: less memory, and batch statistics of
            each part alone.
        requeue_status: The exit status after a stop by SIGTERM, SIGINT (Ctrl-C), SIGUSR1 or SIGUSR2, once all is saved,
            for job schedulers that start a job again by its status; in place of 128 + the signal.
        coordinator: Where process 0 awaits the others, or $JAX_COORDINATOR_ADDRESS. SLURM, Open MPI and TPU pods need
            none of these.
        process_id: The number of this process, from 0 to one less than the count, or $JAX_PROCESS_ID.
        process_count: How many processes train together, or $JAX_NUM_PROCESSES. 1 trains alone, whatever the
            environment looks like.
        local_devices: Numbers of the GPUs that this process uses; by default its share of those of the machine.
        compilation_cache: Where compiled programs are kept: a folder, or its URL in a bucket. By default, that which
            $JAX_COMPILATION_CACHE_DIR names, or OUT/compiled for a run in a bucket, or ~/.cache/rvm-jax.
        cpu_devices: Train on the CPU as if it were so many devices. Each keeps little more than one core busy, so as
            many as there are cores, or as divide the batch, are the fastest.
    """

    out: str | Path
    data_dir: str | Path = field(default_factory=data_folder)
    data_processes: int | None = None
    data_threads: int | None = None
    wandb: WandbMode = "auto"
    wandb_project: str | None = None
    wandb_artifacts: bool = False
    profile: str | None = None
    save_every: int = 500
    validate_every: int = 1000
    keep: int = 3
    clips_per_device: int | None = None
    remat: bool = False
    accumulation: int = 1
    requeue_status: int | None = None
    coordinator: str | None = None
    process_id: int | None = None
    process_count: int | None = None
    local_devices: tuple[int, ...] | None = None
    compilation_cache: str | Path | None = None
    cpu_devices: int | None = None

    def __post_init__(self) -> None:
        counts = ("save_every", "validate_every", "keep", "clips_per_device", "accumulation", "cpu_devices")
        for name in (*counts, "data_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
        if self.data_processes is not None and self.data_processes < 0:
            raise InputError(f"--data-processes {self.data_processes}: expected 0 or more")
        if self.requeue_status is not None and not 0 <= self.requeue_status <= 255:
            raise InputError(f"--requeue-status {self.requeue_status}: expected an exit status, 0 to 255")
        _ = self.profiled

    def given(self) -> dict[str, Any]:
        """All that is not None, as JSON has it."""
        values = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def profiled(self) -> range | None:
        """The iterations that are to be traced."""
        if self.profile is None:
            return None
        match = re.fullmatch(r"(\d+):(\d+)", self.profile)
        found = range(*map(int, match.groups())) if match else range(0)
        if not found:
            raise InputError(f"--profile {self.profile}: expected FIRST:END, such as 100:110 for iterations 100 to 109")
        return found
