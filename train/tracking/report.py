"""`report.html`: a run's curves and its mattes before and after, in one page that needs nothing else.

All of it is from the run's folder: `metrics.jsonl`, `recipe.json`, `sessions.jsonl` and the pictures of validations.
"""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.report import page
from rvm_jax.report.charts import Line, chart, label
from train.run.run_folder import IDENTITY
from train.tracking import metrics_file

Columns = Mapping[str, Line]
"""The metrics of a run, each with the iterations at which it was logged."""

PASSES = {
    "matting_low": "Matting, low resolution",
    "matting_high": "Matting, high resolution",
    "segmentation_video": "Segmentation, clips",
    "segmentation_stills": "Segmentation, stills",
}
WORDS = {"mad": "MAD", "mse": "MSE", "dtssd": "dtSSD", "l1": "L1", "gb": "GB"}
UNITS = {"frames_per_second": "frames/s", "data_wait": "share of the time", "device_memory_gb": "GB"}


def write(folder: Path) -> Path:
    """Write the report of the run in `folder`, as far as it has come; gives its path."""
    columns = read(folder / metrics_file.NAME)
    about = json.loads((folder / IDENTITY).read_text())
    sessions = metrics_file.sessions(folder / metrics_file.SESSIONS)
    stages = beginnings(columns)
    body = [
        f"<h1>{escape(folder.resolve().name)}</h1>",
        f'<p class="soft">A training run of rvm-jax, begun {_day(sessions[0])}.'
        + (" Dashed lines mark where a stage begins." if len(stages) > 1 else "")
        + "</p>",
        _summary(columns, about, sessions),
        *_mattes(columns, folder / "validation"),
        *_curves(columns, stages),
        *_tables(about, sessions[-1]),
    ]
    path = folder / "report.html"
    page.write(path, folder.resolve().name, body)
    return path


def read(path: Path) -> Columns:
    """The record of a run, number by number."""
    if not path.exists():
        raise InputError(f"there is no {path}: a report is made of a run, give the folder of one")
    columns: dict[str, tuple[array[int], array[float]]] = {}
    for numbers in metrics_file.read(path):
        for name, number in numbers.items():
            iterations, values = columns.setdefault(name, (array("l"), array("d")))
            iterations.append(int(numbers["iteration"]))
            values.append(number)
    return {name: Line(name, np.array(x), np.array(y)) for name, (x, y) in columns.items()}


def beginnings(columns: Columns) -> dict[int, str]:
    """The first iteration of each stage, with a name for it."""
    if "stage" not in columns:
        return {}
    _, iterations, stages = columns["stage"]
    first = np.flatnonzero(np.diff(stages, prepend=np.nan) != 0)
    return {int(iterations[at]): f"stage {stages[at]:.0f}" for at in first}


def seconds_spent(times: np.ndarray, starts: np.ndarray) -> float:
    """Seconds between the lines of a record, without those in which nothing ran: from a last line to the next start."""
    before = np.concatenate([[-np.inf], times[:-1]])
    started = np.concatenate([[-np.inf], starts])[np.searchsorted(starts, times, "right")]
    since = np.maximum(before, started)
    return float(np.sum(np.maximum(times - since, 0), where=np.isfinite(since)))


def _summary(columns: Columns, about: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]) -> str:
    done = int(columns["stage"].x[-1]) + 1 if "stage" in columns else 0
    starts = np.array([datetime.fromisoformat(session["started"]).timestamp() for session in sessions])
    times = columns["time"].y if "time" in columns else np.zeros(0)
    facts = {
        "network": about["recipe"]["variant"],
        "iterations": f"{done:,} of {sum(about['iterations'].values()):,}",
        "time spent": str(timedelta(seconds=round(seconds_spent(times, starts)))),
        "devices": sessions[-1]["devices"] + (f", {sessions[-1]['hosts']} hosts" if sessions[-1]["hosts"] > 1 else ""),
    }
    if len(sessions) > 1:
        facts["sessions"] = str(len(sessions))
    if "validation/mad" in columns:
        _, iterations, mads = columns["validation/mad"]
        facts["validation MAD"] = " → ".join(label(mad) for mad in dict.fromkeys([mads[0], mads[-1]]))
        facts["best MAD"] = f"{label(mads.min())} at {iterations[np.argmin(mads)]:,}"
    cards = [f'<div class="card"><div>{name}</div><b>{escape(fact)}</b></div>' for name, fact in facts.items()]
    return f'<div class="cards">{"".join(cards)}</div>'


def _mattes(columns: Columns, folder: Path) -> Iterator[str]:
    if "validation/mad" not in columns:
        return
    _, iterations, mads = columns["validation/mad"]
    shown = [(n, mad) for n, mad in zip(iterations, mads, strict=True) if (folder / f"{n}.png").exists()]
    if not shown:
        return
    yield "<h2>Mattes of the validation set</h2>"
    yield (
        '<p class="soft">From top to bottom: input, true matte, the network’s matte, the person on green. '
        "Each stage is validated on clips of its own data.</p>"
    )
    figures = []
    for n, mad in dict.fromkeys([shown[0], shown[-1]]):
        caption = "before training" if n == 0 else f"iteration {n:,}"
        figures.append(page.picture(caption, (folder / f"{n}.png").read_bytes(), f"MAD {label(mad)}"))
    yield f'<div class="mattes">{"".join(figures)}</div>'


def _curves(columns: Columns, stages: Mapping[int, str]) -> Iterator[str]:
    """All charts, a section for each kind of number."""

    def below(prefix: str) -> list[Line]:
        return [line._replace(name=name[len(prefix) :]) for name, line in columns.items() if name.startswith(prefix)]

    metrics = below("validation/")
    yield from page.section(
        "Validation", [_figure(line.name, [line], "", stages, log=True, smooth=False) for line in metrics]
    )
    gradients = []
    for kind, title in PASSES.items():
        terms = [line for line in below(f"{kind}/") if not line.name.startswith("gradient_norm/")]
        terms.sort(key=lambda line: line.name != "total")
        yield from page.section(title, [_figure(line.name, [line], "loss", stages, log=True) for line in terms])
        if groups := below(f"{kind}/gradient_norm/"):
            gradients.append(_figure(title, groups, "norm of the gradient", stages, log=True))
    if rates := below("learning_rate/"):
        gradients.append(_figure("Learning rates", rates, "learning rate", stages, log=True, smooth=False))
    yield from page.section("Gradients and learning rates", gradients)
    others = [line for name, line in columns.items() if "/" not in name and name not in ("iteration", "stage", "time")]
    speed = [
        _figure(line.name, [line], UNITS.get(line.name, ""), stages, smooth=line.name != "compilations")
        for line in others
    ]
    yield from page.section("Speed", speed)


def _tables(about: Mapping[str, Any], session: Mapping[str, Any]) -> Iterator[str]:
    recipe = dict(about["recipe"])
    stages = {name: dict(_leaves(stage)) for name, stage in recipe.pop("stages").items()}
    rows = [["", *(f"stage {name}" for name in stages)]]
    for field in dict.fromkeys(field for stage in stages.values() for field in stage):
        rows.append([field, *(stage.get(field, "") for stage in stages.values())])
    yield "<h2>Recipe</h2>"
    yield page.table(rows)
    yield page.table(_leaves(recipe))
    if changes := about.get("changes"):
        yield "<h2>What it was before</h2>"
        yield page.table(
            [f"until iteration {one['iteration']}: {name}", value]
            for one in changes
            for name, value in _leaves(one["before"])
        )
    yield "<h2>Provenance</h2>"
    yield page.table(_leaves(session))


def _figure(
    title: str, lines: Sequence[Line], unit: str, stages: Mapping[int, str], *, log: bool = False, smooth: bool = True
) -> str:
    picture = chart(lines, unit=unit, marks=stages, log=log, smooth=smooth)
    words = escape(" ".join(WORDS.get(word, word) for word in title.split("_")))
    return page.figure(words, picture, lines)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value of nested mappings as text, with its path as its name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
            yield f"{prefix}{name}".replace("_", " "), text


def _day(session: Mapping[str, Any]) -> str:
    return f"{datetime.fromisoformat(session['started']):%d %B %Y, %H:%M} UTC"
