"""How a run is carried out: nothing here changes what training gives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rvm_jax.errors import InputError
from rvm_jax.host.paths import data_folder
from train.tracking.wandb_mirror import Mode

Folder = Annotated[Path, arg(metavar="DIR")]


@dataclass(frozen=True)
class Options:
    """How a run is carried out.

    Attributes:
        out: The run's folder. Training goes on where it stopped if the folder has a run of the same recipe.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        wandb: Whether Weights & Biases is told; auto: online if it knows a key here, offline if not.
        wandb_project: The project of W&B in which the run appears, by the name of its folder.
        save_every: Iterations between checkpoints.
        validate_every: Iterations between validations; each stage ends with one, too.
        keep: How many checkpoints are kept, apart from the best one.
        clips_per_device: Clips that each device computes at a time; this makes the batch, in place of --batch.
        coordinator: Process 0 of several hosts; on TPU pods and under SLURM it is found without.
        process_id: Which of the processes this is, from 0.
        process_count: How many processes train together.
        cpu_devices: How many devices a processor without accelerators is taken for. Each keeps little more than one
            core busy, so as many as there are cores, or as divide the batch, are the fastest.
    """

    out: Folder
    data_dir: Folder = field(default_factory=data_folder)
    wandb: Mode = "auto"
    wandb_project: str = "rvm-jax"
    save_every: int = 500
    validate_every: int = 1000
    keep: int = 3
    clips_per_device: int | None = None
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None
    process_id: int | None = None
    process_count: int | None = None
    cpu_devices: int | None = None

    def __post_init__(self) -> None:
        for name in ("save_every", "validate_every", "keep", "clips_per_device", "cpu_devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
