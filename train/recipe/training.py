"""What every recipe decides, whatever network it trains: the batch, the optimizer, precision, seed and start."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from rvm_jax.errors import InputError

Optimizer = Literal["adam", "adamw", "lamb", "sgd"]
Scaling = Literal["auto", "none", "linear", "sqrt"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "bfloat16"]
Unfree = Literal["refuse", "allow"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The part of a recipe that has nothing to do with its network. A recipe adds `variant` and `stages`.

    Attributes:
        batch: Clips of a step, over all devices; by default the published number, or one for each device if they cannot
            share that.
        scaling: How learning rates grow with the batch, from the published one: not at all, in proportion, or with its
            square root, which suits Adam. auto: sqrt if the batch follows from the devices, else none.
        schedule: After the warm-up, learning rates stay constant, or fall in a cosine to 0 at the end of the stage.
        warmup: Iterations at the beginning of each stage in which learning rates rise from 0; half of the shortest
            stage at most.
        optimizer: adam; adamw, with weight decay; lamb, with layerwise steps for very large batches; sgd, with a
            momentum of 0.9.
        weight_decay: Of adamw and lamb, not of biases and norms.
        clip_norm: The largest norm of a pass's gradients, all groups together; larger ones are scaled down.
        ema: Decay of a moving average of the weights in each optimizer step, such as 0.999. The average is what is
            validated, and what the run leaves.
        freeze_norms: BatchNorm normalises by the running statistics that --init brings, and keeps them, as it suits
            fine-tuning on little data; its scale and offset are trained like all weights.
        precision: What the convolutions compute in; weights, losses and what is fine about them are float32.
        unfree: Whether a dataset, or weights to start from, may be used that does not allow commercial use, or does not
            say. What is refused is named.
        seed: Decides the random first weights, the order of the data, and the augmentation.
        init: Weights to start from, of a whole network or of a part of it, in a bucket too; without them, random ones.
    """

    published_batch: ClassVar[int]
    """Of a step in the published recipe, for which the learning rates are written down."""

    batch: int | None = None
    scaling: Scaling = "auto"
    schedule: Schedule = "constant"
    warmup: int = 0
    optimizer: Optimizer = "adam"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema: float | None = None
    freeze_norms: bool = False
    precision: Precision = "float32"
    unfree: Unfree = "allow"
    seed: int = 0
    init: str | Path | None = None

    def __post_init__(self) -> None:
        one_of(get_args(Scaling), scaling=self.scaling)
        one_of(get_args(Schedule), schedule=self.schedule)
        one_of(get_args(Optimizer), optimizer=self.optimizer)
        one_of(get_args(Precision), precision=self.precision)
        one_of(get_args(Unfree), unfree=self.unfree)
        at_least(0, warmup=self.warmup, seed=self.seed, weight_decay=self.weight_decay)
        at_least(1, batch=self.batch)
        if self.seed >= 2**32:
            raise InputError(f"--seed {self.seed}: expected less than {2**32}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise InputError(f"--clip-norm {self.clip_norm}: expected more than 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"--ema {self.ema}: expected a decay between 0 and 1, such as 0.999")
        if self.weight_decay and self.optimizer in ("adam", "sgd"):
            raise InputError(
                f"--weight-decay {self.weight_decay}: {self.optimizer} has none; give --optimizer adamw or lamb"
            )
        if self.optimizer == "adamw" and not self.weight_decay:
            raise InputError("--optimizer adamw is adam without --weight-decay: give that too, such as 0.01")
        if self.freeze_norms and self.init is None:
            raise InputError("--freeze-norms keeps the statistics of weights that were trained: give them by --init")

    @property
    def clips(self) -> int:
        """Clips of a step, over all devices: those of the published recipe until a batch is settled on."""
        return self.published_batch if self.batch is None else self.batch

    def rates(self, stage: int) -> dict[str, float]:
        """The learning rate of each group of modules in a stage, for the published batch; 0 freezes it."""
        raise NotImplementedError


def one_of(allowed: Iterable[str], **given: str) -> None:
    """Refuse values of options that are not among those allowed."""
    for name, value in given.items():
        if value not in allowed:
            raise InputError(f"--{name} {value}: expected one of {', '.join(allowed)}")


def at_least(least: int, where: str = "", **given: float | None) -> None:
    """Refuse values of options, whose names begin with `where`, that are too small or not finite."""
    for name, value in given.items():
        if value is not None and not least <= value < math.inf:
            raise InputError(f"--{where}{name.replace('_', '-')} {value}: expected {least} or more")
