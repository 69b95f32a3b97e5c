"""How a run is carried out: all of it may be another when a run goes on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
        wandb: Whether the run is mirrored in Weights & Biases. auto: online where W&B finds a key, else offline.
        wandb_project: The W&B project of the run, which has the name of its folder there.
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
    wandb: WandbMode = "auto"
    wandb_project: str = "rvm-jax"
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
        for name in ("save_every", "validate_every", "keep", "clips_per_device", "accumulation", "cpu_devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
        if self.requeue_status is not None and not 0 <= self.requeue_status <= 255:
            raise InputError(f"--requeue-status {self.requeue_status}: expected an exit status, 0 to 255")
