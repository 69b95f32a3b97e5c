"""The table of baselines: rows of anybody's runs beside the published figures, as Markdown between two marks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.evaluation import rows, scoreboard
from rvm_jax.evaluation.rows import ResultRow, RunRecord, SetScores
from rvm_jax.evaluation.scoring import METRICS
from rvm_jax.host.files import replacing

BEGIN, END = "<!-- rvm table: begin -->", "<!-- rvm table: end -->"
UNKNOWN = "–"
SHORT = 8
"""Characters of sums and commits that are shown; the rows have all."""


def draw(given: Sequence[ResultRow]) -> str:
    """All tables: one of what the rows are, one for each test set, and one of what is published."""
    parts = [_section("What was scored", list(_runs(given)))]
    if any(row.data for row in given):
        parts.append(_section("What it was trained on", list(_data(given))))
    published = _section("What the RVM paper prints", list(_published()))
    return "\n\n".join([*parts, draw_scores(given), published]) + "\n"


def draw_scores(given: Sequence[ResultRow]) -> str:
    """The tables of the test sets alone."""
    return "\n\n".join(_section(title, list(_scores(scored))) for title, scored in _testsets(given).items())


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the two marks of a Markdown file."""
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; expected a page with the lines {BEGIN} and {END}"
        ) from error
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path} has no place for the table: expected the lines {BEGIN} and {END}")
    with replacing(path, overwrite=True) as partial:
        partial.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def figure(values: Sequence[float | None], digits: int = 2) -> str:
    """The mean of what is known, with its deviation if there are several."""
    found = rows.mean_and_deviation(values)
    if found is None:
        return UNKNOWN
    mean, deviation = found
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")


def _section(title: str, cells: Sequence[Sequence[str]]) -> str:
    return f"### {title}\n\n{scoreboard.markdown(cells)}"


def _runs(given: Sequence[ResultRow]) -> Iterator[list[str]]:
    yield [
        *("", "network", "recipe", "stage", "iterations", "seeds", "hardware", "hours", "frames/s", "precision"),
        *("commit", "weights", "W&B"),
    ]
    for row in given:
        runs = row.runs
        yield [
            row.name,
            row.network,
            row.recipe_name or UNKNOWN,
            _same([run.stage for run in runs]),
            _same([run.iterations for run in runs]),
            _same([None if run.seed is None else str(run.seed) for run in runs], ", "),
            _same([run.hardware for run in runs]),
            figure([run.hours for run in runs]),
            figure([run.frames_per_second for run in runs], 1),
            _same([run.precision for run in runs]),
            _same([run.commit and _short_commit(run.commit) for run in runs]),
            _same([run.sum[:SHORT] for run in runs], ", "),
            _same([_wandb(run) for run in runs], ", "),
        ]


def _data(given: Sequence[ResultRow]) -> Iterator[list[str]]:
    yield ["", "dataset", "version", "licence", "commercial use", "fingerprint"]
    for row in given:
        for one in row.data or ():
            licence = scoreboard.linked(one.licence, one.link)
            told = [one.dataset, one.version or UNKNOWN, licence, one.commercial]
            yield [row.name, *told, one.fingerprint[:SHORT] or UNKNOWN]


def _testsets(given: Sequence[ResultRow]) -> dict[str, list[tuple[str, SetScores]]]:
    """The rows' scores by the title of their table: what was run otherwise is in another."""
    found: dict[str, list[tuple[str, SetScores]]] = {}
    for row, one in chain.from_iterable([(row, one) for one in row.testsets] for row in given):
        how = ", as the published HD figures" if one.settings.get("high_resolution") else ""
        if ratio := one.settings.get("downsample_ratio"):
            how += f", at {ratio:g}"
        if (precision := one.settings.get("precision", "float32")) != "float32":
            how += f", in {precision}"
        title = f"{one.dataset}, {one.size}, {one.clips} clip{'s' if one.clips > 1 else ''}{how}"
        found.setdefault(title, []).append((row.name, one))
    return found


def _scores(scored: Sequence[tuple[str, SetScores]]) -> Iterator[list[str]]:
    one = scored[0][1]
    beside = []
    if size := re.fullmatch(r"(\d+)×(\d+)", one.size):
        width, height = map(int, size.groups())
        alike = {"high_resolution": bool(one.settings.get("high_resolution")), "other_composites": one.made_here}
        beside = scoreboard.published(one.dataset, (height, width), **alike)
    lines: list[tuple[str, Mapping[str, Sequence[float]]]] = [(name, each.scores) for name, each in scored]
    lines += [(name, {metric: [value] for metric, value in values.items()}) for name, values in beside]
    shown = [metric for metric in METRICS if any(metric in scores for _, scores in lines)]
    yield ["", *(METRICS[metric] for metric in shown)]
    for name, scores in lines:
        yield [name, *(figure(scores.get(metric, ())) for metric in shown)]


def _published() -> Iterator[list[str]]:
    metrics = scoreboard.PUBLISHED_METRICS
    shown = [m for n, m in enumerate(metrics) if any(v[n] for s in scoreboard.PUBLISHED.values() for v in s.values())]
    yield ["test set", "", *(METRICS[metric] for metric in shown)]
    for testset, methods in scoreboard.PUBLISHED.items():
        for name, values in methods.items():
            known = dict(zip(metrics, values, strict=True))
            yield [testset, name.replace(" (published)", ""), *(figure([known[metric]]) for metric in shown)]


def _same(values: Sequence[object], joint: str = " / ") -> str:
    """Each value once."""
    known = dict.fromkeys(str(value) for value in values if value is not None)
    return joint.join(known) or UNKNOWN


def _short_commit(commit: str) -> str:
    return commit[:SHORT] + ("-dirty" if commit.endswith("-dirty") else "")


def _wandb(run: RunRecord) -> str | None:
    return scoreboard.linked(run.name, run.wandb) if run.wandb and "://" in run.wandb else run.wandb
