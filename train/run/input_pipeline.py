"""The data of a run: what its recipe names is opened, counted, and turned into the batches of every iteration.

The streams of a stage stand where `sampling.schedule` says that they stand at an iteration, so to start at any
iteration costs no more than to start at the first.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from data_pipelines.pipelines import datasets, matting, segmentation
from data_pipelines.pipelines.batches import Batch, Batches, Slice, arrays
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.pipelines.workers import Workers
from data_pipelines.records import clips
from data_pipelines.records.clips import EMPTY, Clips
from data_pipelines.sampling import schedule
from data_pipelines.sampling.schedule import ClipShape, Pass, PassKind, StageData
from rvm_jax.errors import InputError
from rvm_jax.host.cores import described
from rvm_jax.host.paths import Location
from train.device.hosts import Hosts
from train.recipe.baselines import AnyRecipe, StillStage
from train.recipe.options import Options
from train.recipe.recipe import Recipe, Stage

VALIDATION_SEED = 0
"""Whatever the recipe's seed is: runs are compared by the same clips on the same backgrounds."""


class AnySources(Protocol):
    """What a stage is made of: its samples, what it is validated on, and a digest of each of its datasets by name."""

    @property
    def validation(self) -> MattingData | Clips: ...
    @property
    def fingerprints(self) -> Mapping[str, str]: ...
    def batches(self, recipe: Any, kind: PassKind, part: Slice, drawn: Mapping[str, Any]) -> Batches:
        """Those of a kind of pass, at random as `drawn` says."""
        ...


class Sources(NamedTuple):
    """The clips of a stage of RVM's, and a digest of each of its datasets by name."""

    matting: MattingData
    segmentation_clips: Clips
    segmentation_stills: Clips
    validation: MattingData
    fingerprints: Mapping[str, str]

    def batches(self, recipe: Recipe, kind: PassKind, part: Slice, drawn: Mapping[str, Any]) -> Batches:
        """Those of a kind of pass, at random as `drawn` says."""
        match kind:
            case "segmentation_video":
                augmentation = replace(segmentation.VIDEO, move_stills=recipe.still_motion)
                return segmentation.batches(self.segmentation_clips, part, augmentation=augmentation, **drawn)
            case "segmentation_stills":
                return segmentation.batches(self.segmentation_stills, part, augmentation=segmentation.STILLS, **drawn)
            case _:
                moved = replace(self.matting.augmentation, move_background=recipe.background_motion)
                return matting.batches(self.matting, part, augmentation=moved, **drawn)


UNOPENED = Sources(MattingData(EMPTY), EMPTY, EMPTY, MattingData(EMPTY), {})
"""Of a stage that is skipped."""


def open_sources(recipe: Recipe, data_dir: Location) -> list[Sources]:
    """The sources of every stage. Whatever is missing is refused before anything starts."""

    @cache
    def open_matting(foregrounds: tuple[str, ...], backgrounds: tuple[str, ...], split: str) -> MattingData:
        return datasets.open_matting(foregrounds, backgrounds, split, data_dir)

    @cache
    def open_segmentation(datasets: tuple[str, ...]) -> Clips:
        return clips.open_clips(datasets, "train", data_dir)

    def sources(stage: Stage) -> Sources:
        backgrounds = stage.backgrounds or recipe.backgrounds
        named: list[tuple[str, datasets.DatasetKind, tuple[str, ...]]] = [
            ("matting data", "matting", stage.matting),
            ("backgrounds", "background", backgrounds),
            ("segmentation clips", "segmentation", recipe.segmentation_clips),
            ("segmentation stills", "segmentation", recipe.segmentation_stills),
        ]
        for what, _, names in named:
            if not names:
                raise InputError(f"the recipe names no {what}: expected one dataset or more")
        return Sources(
            matting=open_matting(stage.matting, backgrounds, "train"),
            segmentation_clips=open_segmentation(recipe.segmentation_clips),
            segmentation_stills=open_segmentation(recipe.segmentation_stills),
            validation=open_matting(stage.matting, backgrounds, "validation"),
            fingerprints={name: fingerprint(name, kind, data_dir) for _, kind, names in named for name in names},
        )

    return [UNOPENED if stage.skipped else sources(stage) for stage in recipe.stages]


def fingerprint(dataset: str, expected: datasets.DatasetKind, data_dir: Location) -> str:
    """A digest of a dataset, which has to be of the expected kind."""
    found = datasets.kind(dataset, data_dir)
    if found != expected:
        raise InputError(f"{dataset} is a {found} dataset: the recipe needs a {expected} dataset there")
    return clips.fingerprint(dataset, data_dir)


def fingerprints(sources: Sequence[AnySources]) -> dict[str, str]:
    """A digest of every dataset of a run, which tells whether it is started again with the same data."""
    return {name: digest for source in sources for name, digest in source.fingerprints.items()}


def stage_data(recipe: Recipe, sources: Sequence[Sources]) -> list[StageData]:
    """What every stage asks of the data, and how many iterations it has."""
    return [
        StageData(
            iterations=iterations(stage, recipe.clips, partial(_epoch, stage, source.matting)),
            batch=recipe.clips,
            low=ClipShape(stage.frames, stage.size),
            high=ClipShape(stage.high_frames, stage.high_size) if stage.high_frames else None,
            segmentation_size=recipe.segmentation_size,
            buckets=recipe.buckets,
        )
        for stage, source in zip(recipe.stages, sources, strict=True)
    ]


def open_workers(options: Options, hosts: Hosts) -> Workers:
    """What makes the samples of a run here. Processes of the run that have the same cores divide them."""
    return Workers(options.data_processes, options.data_threads, sharing=hosts.sharing(described()))


def feed(
    recipe: AnyRecipe,
    stages: Sequence[StageData],
    sources: Sequence[AnySources],
    start: int,
    host: int = 0,
    hosts: int = 1,
    parts: int = 1,
    workers: Workers | None = None,
) -> Generator[tuple[int, Iterator[tuple[Pass, Batch]]]]:
    """Every iteration of the run from `start` on: its number, and its passes with this host's share of their batches.

    A pass comes as soon as its own batch is there; all of an iteration's have to be taken before the next one's. The
    batches are those of `matting.batches` and `segmentation.batches`, made by `workers`, or by threads where none are
    given. Only the streams of one stage are open at a time; close the generator if it is left before its end.
    """
    end = 0
    for number, (stage, source) in enumerate(zip(stages, sources, strict=True)):
        begin, end = end, end + stage.iterations
        left = range(max(start, begin), end)
        if not left:
            continue
        sliced = partial(Slice, host=host, hosts=hosts, parts=parts)
        streams = _streams(recipe, number, stage, source, left[0] - begin, sliced, workers)
        try:
            for iteration in left:
                passes = schedule.passes(stages, recipe.seed, iteration)
                yield iteration, ((one, next(streams[one.kind])) for one in passes)
        finally:
            streams.clear()  # an iterator of TensorFlow that is left when Python ends can abort it


def validation_batches(
    recipe: AnyRecipe,
    stage: Stage | StillStage,
    source: AnySources,
    batch: int,
    host: int = 0,
    hosts: int = 1,
    workers: Workers | None = None,
) -> Generator[tuple[Batch, np.ndarray]]:
    """This host's part of the fixed set of clips, `batch` at a time over all hosts, each as `matting.batches` gives it.

    With each comes which of its clips are real, float32 [b] of 1 and 0: other clips fill up the last batch. The set
    is the same in every run and at any time, however it is divided. Where a stage trains the refiner, its pictures are
    so much larger that the network sees them, once scaled down, at the size that the recipe says.
    """
    wanted = recipe.validation
    scale = stage.validation_ratio
    height, width = round(wanted.height / scale), round(wanted.width / scale)
    part = Slice(batch, host=host, hosts=hosts)
    drawn: dict[str, Any] = {
        "seed": VALIDATION_SEED,
        "stream": "validation",
        "frames": wanted.frames,
        "size": max(height, width),
        "shape": (height, width),
    }
    if isinstance(source.validation, Clips):
        batches = segmentation.batches(source.validation, part, augmentation=segmentation.NONE, **drawn)
    else:
        batches = matting.batches(source.validation, part, augmentation=matting.NONE, **drawn)
    batches = replace(batches, plans=batches.plans.take(-(-wanted.clips // batch)))
    for number, made in enumerate(arrays(batches, workers)):
        clip = number * batch + host * part.share + np.arange(part.share)
        yield made, (clip < wanted.clips).astype(np.float32)


def _epoch(stage: Stage, data: MattingData) -> int:
    return data.epoch(stage.frames, images=data.of_images)


def iterations(stage: Stage | StillStage, batch: int, epoch: Callable[[], int]) -> int:
    """How many a stage has. `epoch` counts its samples; it is not called if the stage is skipped."""
    if stage.iterations is not None:
        return stage.iterations
    if stage.samples is not None:
        return schedule.iterations(1, stage.samples, batch)
    if stage.skipped:
        return 0  # its data are not open
    return schedule.iterations(stage.epochs, epoch(), batch)


def _streams(
    recipe: AnyRecipe,
    number: int,
    stage: StageData,
    source: AnySources,
    iteration: int,
    sliced: Callable[[int, int], Slice],
    workers: Workers | None,
) -> dict[PassKind, Iterator[Batch]]:
    """The batches of each kind of pass of a stage, from one of its iterations on."""

    def stream(kind: PassKind) -> Batches:
        shape = stage.shape(kind)
        part = sliced(stage.samples(kind), schedule.batch_number(kind, iteration))
        drawn: dict[str, Any] = {
            "seed": recipe.seed,
            "stream": schedule.stream(number, kind),
            "frames": shape.frames,
            "size": shape.size,
            "buckets": stage.buckets,
        }
        return source.batches(recipe, kind, part, drawn)

    return {kind: arrays(stream(kind), workers) for kind in {*schedule.kinds(stage, 0), *schedule.kinds(stage, 1)}}
