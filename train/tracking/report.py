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
from train.tracking import goodput, metrics_file

Columns = Mapping[str, Line]
"""The metrics of a run, each with the iterations at which it was logged."""

NAME = "report.html"
PASSES = {
    "matting_low": "Matting, low resolution",
    "matting_high": "Matting, high resolution",
    "segmentation_video": "Segmentation, clips",
    "segmentation_stills": "Segmentation, stills",
    "stills": "Stills",
}
WORDS = {"mad": "MAD", "mse": "MSE", "dtssd": "dtSSD", "l1": "L1", "gb": "GB", "mfu": "MFU"}
UNITS = {
    "frames_per_second": "frames/s",
    "teraflops_per_device": "TFLOP/s",
    "mfu": "share of the peak",
    "data_wait": "share of the time",
    "goodput": "share of the time",
    "device_memory_gb": "GB",
}
UNCHARTED = {"iteration", "stage", "time", "frames_per_second_per_device"}
"""What is no curve, or one that there is already."""
TIME = {
    "compute": "devices compute the passes of iterations",
    "data": "they have nothing to do, as a batch is not there yet",
    "transfer": "likewise, as it is on its way to them",
    "host": "likewise, as the host does something else",
    "compiling": "programs are compiled, or read from the cache",
    "validation": "",
    "checkpoints": "as long as training waits for them; most of the writing goes on beside it",
    "starting": "opening data, reading the checkpoint; at the end, weights and report",
    "repeated": "computed by a session that was killed, and not saved",
}
"""What devices and host do."""


def write(folder: Path) -> Path:
    """Write the report of the run in `folder`, as far as it has come; gives its path."""
    columns = read(folder / metrics_file.NAME)
    about = json.loads((folder / IDENTITY).read_text())
    sessions = metrics_file.sessions(folder / metrics_file.SESSIONS)
    stages = beginnings(columns)
    begun = f", begun {_day(sessions[0])}" if sessions else ""
    spent = goodput.read(folder)
    body = [
        f"<h1>{escape(folder.resolve().name)}</h1>",
        f'<p class="soft">A training run of rvm-jax{begun}.'
        + (" Dashed lines mark where a stage begins." if len(stages) > 1 else "")
        + "</p>",
        cards(summary(columns, about, sessions, spent)),
        *_mattes(columns, folder / "validation"),
        *_curves(columns, stages),
        *_time_spent(spent),
        *_tables(about, sessions[-1] if sessions else {}),
    ]
    path = folder / NAME
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


def summary(
    columns: Columns,
    about: Mapping[str, Any],
    sessions: Sequence[Mapping[str, Any]],
    spent: Sequence[goodput.Seconds],
) -> dict[str, str]:
    """What a run is and how far it has come, in a few words each."""
    done = int(columns["stage"].x[-1]) + 1 if "stage" in columns else 0
    starts = np.array([datetime.fromisoformat(session["started"]).timestamp() for session in sessions])
    times = columns["time"].y if "time" in columns else np.zeros(0)
    seconds = sum(goodput.total(spent).values()) if spent else seconds_spent(times, starts)
    facts = {
        "network": about["recipe"]["variant"],
        "iterations": f"{done:,} of {sum(about['iterations'].values()):,}",
        "time spent": str(timedelta(seconds=round(seconds))),
    }
    if sessions:
        hosts = sessions[-1]["hosts"]
        facts["devices"] = sessions[-1]["devices"] + (f", {hosts} hosts" if hosts > 1 else "")
    if len(sessions) > 1:
        facts["sessions"] = str(len(sessions))
    if spent:
        facts["goodput"] = f"{goodput.share(goodput.total(spent)):.0%}"
    if "frames_per_second_per_device" in columns:
        rate, of_device = (np.median(columns[f"frames_per_second{of}"].y) for of in ("", "_per_device"))
        facts["frames/s"] = label(rate) + (
            f" ({rate / of_device:.0f} × {label(of_device)})" if rate > of_device else ""
        )
    if "teraflops_per_device" in columns:
        mfu = f", MFU {np.median(columns['mfu'].y):.1%}" if "mfu" in columns else ""
        facts["TFLOP/s a device"] = label(float(np.median(columns["teraflops_per_device"].y))) + mfu
    if "validation/mad" in columns:
        _, iterations, mads = columns["validation/mad"]
        facts["validation MAD"] = " → ".join(label(mad) for mad in dict.fromkeys([mads[0], mads[-1]]))
        facts["best MAD"] = f"{label(mads.min())} at {iterations[np.argmin(mads)]:,}"
    return facts


def cards(facts: Mapping[str, str]) -> str:
    """Facts beside each other."""
    each = [f'<div class="card"><div>{name}</div><b>{escape(fact)}</b></div>' for name, fact in facts.items()]
    return f'<div class="cards">{"".join(each)}</div>'


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
        "Validation", [figure(line.name, [line], "", stages, log=True, smooth=False) for line in metrics]
    )
    gradients = []
    for kind, title in PASSES.items():
        terms = [line for line in below(f"{kind}/") if not line.name.startswith("gradient_norm/")]
        terms.sort(key=lambda line: line.name != "total")
        yield from page.section(title, [figure(line.name, [line], "loss", stages, log=True) for line in terms])
        if groups := below(f"{kind}/gradient_norm/"):
            gradients.append(figure(title, groups, "norm of the gradient", stages, log=True))
    if rates := below("learning_rate/"):
        gradients.append(figure("Learning rates", rates, "learning rate", stages, log=True, smooth=False))
    yield from page.section("Gradients and learning rates", gradients)
    others = [line for name, line in columns.items() if "/" not in name and name not in UNCHARTED]
    speed = [
        figure(line.name, [line], UNITS.get(line.name, ""), stages, smooth=line.name != "compilations")
        for line in others
    ]
    if parts := below("seconds/"):
        speed.append(figure("an_iteration", parts, "seconds", stages))
    yield from page.section("Speed", speed)


def _time_spent(spent: Sequence[goodput.Seconds]) -> Iterator[str]:
    if not spent:
        return
    seconds = goodput.total(spent)
    everything = max(sum(seconds.values()), 1e-9)
    yield "<h2>Where the time went</h2>"
    yield (
        f'<p class="soft">{timedelta(seconds=round(everything))} in '
        f"{'one session' if len(spent) == 1 else f'{len(spent)} sessions'}. Goodput is the share of compute; what the "
        "host does while devices compute costs nothing and counts as theirs.</p>"
    )
    yield page.table(
        [kind, str(timedelta(seconds=round(value))), f"{value / everything:.1%}", TIME[kind]]
        for kind, value in seconds.items()
        if value
    )


def _tables(about: Mapping[str, Any], session: Mapping[str, Any]) -> Iterator[str]:
    recipe = dict(about["recipe"])
    stages = {name: dict(leaves(stage)) for name, stage in recipe.pop("stages").items()}
    rows = [["", *(f"stage {name}" for name in stages)]]
    for field in dict.fromkeys(field for stage in stages.values() for field in stage):
        rows.append([field, *(stage.get(field, "") for stage in stages.values())])
    yield "<h2>Recipe</h2>"
    yield page.table(rows)
    yield page.table(leaves(recipe))
    if changes := about.get("changes"):
        yield "<h2>What it was before</h2>"
        yield page.table(
            [f"until iteration {one['iteration']}: {name}", value]
            for one in changes
            for name, value in leaves(one["before"])
        )
    if session:
        yield "<h2>Provenance</h2>"
        yield page.table(leaves(session))


def figure(
    title: str, lines: Sequence[Line], unit: str, stages: Mapping[int, str], *, log: bool = False, smooth: bool = True
) -> str:
    picture = chart(lines, unit=unit, marks=stages, log=log, smooth=smooth)
    words = escape(" ".join(WORDS.get(word, word) for word in title.split("_")))
    return page.figure(words, picture, lines)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value of nested mappings as text, with its path as its name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
            yield f"{prefix}{name}".replace("_", " "), text


def _day(session: Mapping[str, Any]) -> str:
    return f"{datetime.fromisoformat(session['started']):%d %B %Y, %H:%M} UTC"
