"""Rows of the table of baselines: how a network was trained and what it scores, one JSON file each.

A row is of one network, or of several runs of one recipe that differ in their seed: then every figure is a list, one
value a run, and is shown as mean ± deviation. What is scored on another test set is added to the same file.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

import jax
import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout, scoreboard, speed
from rvm_jax.evaluation.layout import EvaluationClip
from rvm_jax.evaluation.methods import AnyMatte
from rvm_jax.evaluation.scoring import METRICS
from rvm_jax.host.files import replacing
from rvm_jax.weights.names import digest
from rvm_jax.weights.provenance import Provenance, TrainingSet

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class RunRecord:
    """How the weights of one run came to be. What is not known is None, as of weights that somebody else trained.

    Attributes:
        name: Of the weights, as they were given.
        sum: SHA-256 of the variables (`weights.names.digest`), the same in every kind of file.
        seed: Of the run.
        stage: How many stages are done, "4 of 4".
        iterations: How many are done.
        hardware: The devices that it ran on.
        hours: How long it ran, with all that it waited for.
        frames_per_second: The median over its iterations.
        precision: What it computed in.
        commit: Of this project, that trained it.
        wandb: The link of its W&B run, or its id where it was recorded offline.
    """

    name: str
    sum: str
    seed: int | None = None
    stage: str | None = None
    iterations: int | None = None
    hardware: str | None = None
    hours: float | None = None
    frames_per_second: float | None = None
    precision: str | None = None
    commit: str | None = None
    wandb: str | None = None


@dataclass(frozen=True)
class PreparedSet(TrainingSet):
    """A dataset that was trained on, and the `fingerprint` of what was prepared of it, where that is known."""

    fingerprint: str = ""


@dataclass(frozen=True)
class SetScores:
    """What was scored on one test set, and how.

    Attributes:
        dataset: As its folder is called.
        size: Width × height of its frames, or "several sizes".
        clips: How many.
        made_here: Whether its composites are those of `rvm data testset`, other than the published ones.
        settings: How networks were run and scored: ratio, precision, high resolution.
        scores: The means of each metric, one value for each run.
    """

    dataset: str
    size: str
    clips: int
    made_here: bool
    settings: Mapping[str, Any]
    scores: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ResultRow:
    """A row of the table.

    Attributes:
        name: What the table calls it.
        network: In a few words, with its parameters.
        runs: The runs that it is the mean of.
        data: What they were trained on; None where the weights do not tell.
        recipe_name: As the weights tell it; None where they do not.
        recipe: Without its seed, as the run's `recipe.json` has it; None where there is none.
        testsets: What they score.
        scored: When, on what, by which version.
    """

    name: str
    network: str
    runs: tuple[RunRecord, ...]
    data: tuple[PreparedSet, ...] | None
    recipe_name: str | None
    recipe: Mapping[str, Any] | None
    testsets: tuple[SetScores, ...]
    scored: Mapping[str, str] = field(default_factory=dict)


class RunFacts(Protocol):
    """What a run's folder tells of it (`train.tracking.summary.Summary`)."""

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def recipe(self) -> dict[str, Any]: ...

    @property
    def fingerprints(self) -> dict[str, str]: ...


def of_networks(networks: Mapping[str, AnyMatte], runs: Mapping[str, RunFacts | None]) -> ResultRow:
    """The row of networks that are not scored yet, with what the folders of their runs tell, by the names of methods.

    Raises `InputError` unless these are one network, or different runs of one recipe.
    """
    (name, matte), *others = networks.items()
    first = runs[name]
    for other, theirs in others:
        run = runs[other]
        alike = first is not None and run is not None and first.recipe == run.recipe
        if not alike or description(matte) != description(theirs):
            raise InputError(
                f"--row is for one network, or for runs of one recipe that differ in their seed, and {name} and "
                f"{other} are not: write a row of each"
            )
    records = tuple(_record(network, each, runs[network]) for network, each in networks.items())
    if len({one.sum for one in records}) < len(records):
        raise InputError("--row takes each run once, and two of these hold the same weights: leave one out")
    return ResultRow(
        name,
        description(matte),
        records,
        _data(matte.provenance, first),
        matte.provenance.recipe if matte.provenance else None,
        first.recipe if first else None,
        (),
    )


def with_scores(
    row: ResultRow,
    results: scoreboard.Results,
    clips: Sequence[EvaluationClip],
    settings: Mapping[str, Any],
    *,
    made_here: bool,
) -> ResultRow:
    """The row with what its networks score; `results` are by the names of its runs."""
    networks = [run.name for run in row.runs]
    sizes = {clip.label: layout.size(clip) for clip in clips}
    testsets = []
    for dataset in scoreboard.datasets(results):
        those = [clip for clip in clips if clip.dataset in dataset.parts]
        pixels = {f"{width}×{height}" for height, width in (sizes[clip.label] for clip in those)}
        means = dict(dataset.rows)
        metrics = [metric for metric in METRICS if all(metric in means[network] for network in networks)]
        scores = {metric: [round(means[network][metric], 4) for network in networks] for metric in metrics}
        size = pixels.pop() if len(pixels) == 1 else "several sizes"
        testsets.append(SetScores(dataset.name, size, len(those), made_here, settings, scores))
    scored = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "device": speed.device(), "rvm-jax": version("rvm-jax")}
    return replace(row, testsets=tuple(testsets), scored=scored)


def description(matte: AnyMatte) -> str:
    """A network in a few words."""
    return f"{matte.name}, {speed.parameters(matte):,} parameters"


def _record(name: str, matte: AnyMatte, run: RunFacts | None) -> RunRecord:
    return RunRecord(name, digest(jax.device_get(matte.variables)), **(run.facts if run else {}))


def _data(told: Provenance | None, run: RunFacts | None) -> tuple[PreparedSet, ...] | None:
    """The datasets that weights tell, or else those of the recipe, whose licences are then unknown."""
    fingerprints = run.fingerprints if run else {}
    if told is None:
        found = [TrainingSet(dataset, "", "unknown", "", "unknown", "") for dataset in fingerprints]
    else:
        found = list(told.data)
    return tuple(PreparedSet(**asdict(one), fingerprint=fingerprints.get(one.dataset, "")) for one in found) or None


def read(path: Path) -> ResultRow:
    """The row in a file, called after it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(_typed(RunRecord, run) for run in found["runs"])
        testsets = tuple(_typed(SetScores, testset) for testset in found["testsets"])
        data = None if found["data"] is None else tuple(_typed(PreparedSet, one) for one in found["data"])
        row = _typed(ResultRow, {**found, "name": path.stem, "runs": runs, "testsets": testsets, "data": data})
        if not runs or any(len(values) != len(runs) for one in testsets for values in one.scores.values()):
            raise ValueError("it has not one value of each score for each run")
        return row
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; give a file that `rvm evaluate --row` wrote"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no row ({error}): give a file that `rvm evaluate --row` wrote") from error


def write(row: ResultRow, path: Path) -> ResultRow:
    """Write a row, called after its file, or add what it scores to the file of the same network; gives what it has."""
    row = replace(row, name=path.stem)
    check_place(row, path)
    if path.exists():
        row = _together(read(path), row)
    with replacing(path, overwrite=True) as partial:
        partial.write_text(json.dumps(asdict(row), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    return row


def check_place(row: ResultRow, path: Path) -> None:
    """Raise `InputError` if a row cannot be there: below a file, or where the row of other weights is."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: {folder} is a file, not a folder")
    if path.exists() and [run.sum for run in read(path).runs] != [run.sum for run in row.runs]:
        raise InputError(f"{path} is the row of other weights: give another name, or delete it")


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    """Of what is known; the deviation, that of a sample, only of two or more."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def _together(old: ResultRow, new: ResultRow) -> ResultRow:
    """What is scored now beside what was; of the same test set and settings, what is scored now."""

    def key(one: SetScores) -> tuple[str, str, str]:
        return one.dataset, one.size, json.dumps(one.settings, sort_keys=True)

    again = set(map(key, new.testsets))
    kept = [one for one in old.testsets if key(one) not in again]
    return replace(new, testsets=(*kept, *new.testsets))


def _typed(kind: type[Kind], found: Mapping[str, Any]) -> Kind:
    """The dataclass of what JSON gives; raises `TypeError` if a field is missing, unknown or of another type."""
    made = kind(**found)
    for name, expected in get_type_hints(kind).items():
        if not _is(getattr(made, name), expected):
            raise TypeError(f"its {name} is {getattr(made, name)!r}")
    return made


def _is(value: Any, expected: Any) -> bool:
    """Whether a value is of a type, through unions, mappings and sequences."""
    origin, inner = get_origin(expected), get_args(expected)
    if origin is UnionType:
        return any(_is(value, one) for one in inner)
    if origin is None:
        return expected is Any or isinstance(value, (int, float) if expected is float else expected)
    if isinstance(value, str) or not isinstance(value, origin):
        return False
    parts, part = (value.values(), inner[1]) if isinstance(value, Mapping) else (value, inner[0])
    return all(_is(one, part) for one in parts)
