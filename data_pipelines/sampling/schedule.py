"""The schedule of passes: which run at an iteration, on which data, at what shape, by (stages, seed, iteration) alone.

An iteration has two or three passes, each an optimizer step of its own: low-resolution matting, high-resolution matting
where the stage has one, and segmentation, on clips at even iterations and on stills at odd ones. Every stream of a
stage counts its own batches, so the iteration is the position in all of them. A network that knows stills alone has one
pass on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_pipelines.sampling import windows
from rvm_jax.errors import InputError

PassKind = Literal["matting_low", "matting_high", "segmentation_video", "segmentation_stills", "stills"]


@dataclass(frozen=True)
class ClipShape:
    """T frames from a square of side S."""

    frames: int
    size: int

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"clips of {self.frames} frames: expected 1 or more")
        windows.sizes(self.size)


@dataclass(frozen=True)
class StageData:
    """What a stage asks of the data.

    Attributes:
        iterations: How many it has, see `iterations`. A stage with none is skipped.
        batch: Clips in a batch, over all devices and hosts.
        low: Shape of the low-resolution matting clips, and of the segmentation clips.
        high: Shape of the high-resolution matting clips, if the stage has such a pass.
        segmentation_size: Side of the square for segmentation.
        buckets: How many heights, and how many widths, the batches of each kind may have.
        stills: Its only pass is one of stills, of the shape `low`.
    """

    iterations: int
    batch: int
    low: ClipShape
    high: ClipShape | None = None
    segmentation_size: int = 512
    buckets: int = windows.BUCKETS
    stills: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.batch < 1:
            raise InputError(
                f"{self.iterations} iterations with batches of {self.batch}: expected 0 or more, of 1 or more"
            )
        windows.sizes(self.segmentation_size, self.buckets)

    def shape(self, kind: PassKind) -> ClipShape:
        """Frames and square size of the samples of this kind of pass."""
        match kind:
            case "matting_low" | "stills":
                return self.low
            case "matting_high":
                if self.high is None:
                    raise ValueError("this stage has no high-resolution pass")
                return self.high
            case "segmentation_video":
                return ClipShape(self.low.frames, self.segmentation_size)
            case "segmentation_stills":
                return ClipShape(1, self.segmentation_size)

    def samples(self, kind: PassKind) -> int:
        """Samples in a batch: as many stills as a batch of clips has frames."""
        return self.batch * self.low.frames if kind == "segmentation_stills" else self.batch


@dataclass(frozen=True)
class Pass:
    """One optimizer step.

    Attributes:
        kind: What is trained on what.
        stage: Counts from 0.
        stream: The name under which its samples are drawn.
        batch: Its batch's number in that stream.
        frames: T.
        height: Of the frames that the network sees.
        width: Likewise.
    """

    kind: PassKind
    stage: int
    stream: str
    batch: int
    frames: int
    height: int
    width: int


def iterations(epochs: int, samples: int, batch: int) -> int:
    """Iterations of a stage: every sample `epochs` times, the last batch filled up from the next epoch."""
    return -(-epochs * samples // batch)


def stage_of(stages: Sequence[StageData], iteration: int) -> tuple[int, int]:
    """The stage that an iteration of the whole run belongs to, and its number there."""
    if iteration < 0:
        raise ValueError(f"there is no iteration {iteration}")
    for stage, data in enumerate(stages):
        if iteration < data.iterations:
            return stage, iteration
        iteration -= data.iterations
    raise ValueError(f"the schedule ends {iteration + 1} iterations earlier")


def kinds(stage: StageData, iteration: int) -> list[PassKind]:
    """The passes of a stage's iteration, in order."""
    if stage.stills:
        return ["stills"]
    segmentation: PassKind = "segmentation_stills" if iteration % 2 else "segmentation_video"
    return ["matting_low", "matting_high", segmentation] if stage.high else ["matting_low", segmentation]


def batch_number(kind: PassKind, iteration: int) -> int:
    """How many batches of this kind came before this iteration of the stage."""
    match kind:
        case "segmentation_video":
            return (iteration + 1) // 2
        case "segmentation_stills":
            return iteration // 2
        case _:
            return iteration


def stream(stage: int, kind: PassKind) -> str:
    """The name under which samples of this kind are drawn in this stage."""
    return f"stage {stage + 1} {kind}"


def passes(stages: Sequence[StageData], seed: int, iteration: int) -> list[Pass]:
    """The passes of an iteration of the whole run."""
    stage, number = stage_of(stages, iteration)
    made = []
    data = stages[stage]
    for kind in kinds(data, number):
        wanted, batch = data.shape(kind), batch_number(kind, number)
        height, width = windows.shape(seed, stream(stage, kind), batch, wanted.size, data.buckets)
        made.append(Pass(kind, stage, stream(stage, kind), batch, wanted.frames, int(height), int(width)))
    return made
