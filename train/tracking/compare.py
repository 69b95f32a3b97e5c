"""One page for several runs: their curves over each other, how their recipes differ, and what they came to.

All of it is from the runs' folders, as in `report`; of a run in a bucket, the few files that are needed are copied.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.paths import Location, is_url
from rvm_jax.report import page
from rvm_jax.report.charts import COLOURS, Line, label
from train.run.identity import with_defaults
from train.run.run_folder import IDENTITY
from train.tracking import goodput, metrics_file, report

FILES = (metrics_file.NAME, IDENTITY, metrics_file.SESSIONS, goodput.NAME)
NOT_COMPARED = {"seconds/transfer", "seconds/host", "compilations"}


class Run(NamedTuple):
    """A run that is compared."""

    name: str
    columns: report.Columns
    about: dict[str, Any]
    facts: dict[str, str]
    mattes: tuple[str, bytes] | None


def write(runs: Sequence[Location], path: Path) -> Path:
    """Compare runs, folders or URLs, on a page; gives its path."""
    if not 2 <= len(runs) <= COLOURS:
        raise InputError(f"{len(runs)} given: expected 2 to {COLOURS} runs, each of which has a colour")
    if path.name == report.NAME and (path.parent / IDENTITY).exists():
        raise InputError(f"--out {path} is the report of a run: give the page another name")
    names = _names(runs)
    found = [_read(name, run) for name, run in zip(names, runs, strict=True)]
    legend = "".join(f'<span><i class="c{n}"></i>{escape(str(run))}</span>' for n, run in enumerate(runs))
    body = [
        f"<h1>{escape(' · '.join(names))}</h1>",
        '<p class="soft">Training runs of rvm-jax, compared.</p>',
        f'<div class="legend">{legend}</div>',
        *_table("Figures", [run.facts for run in found], names),
        *_table("What differs in the recipes", _differing([_recipe(run.about) for run in found]), names),
        *_pictures(found),
        *_curves(found),
    ]
    page.write(path, " · ".join(names), body)
    return path


def _names(runs: Sequence[Location]) -> list[str]:
    """The last parts of their paths, as many as tell them apart."""
    parts = [str(run).rstrip("/").split("/") for run in runs]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{runs[0]} is given twice: expected different runs")


def _read(name: str, run: Location) -> Run:
    with contextlib.ExitStack() as stack:
        folder = Path(run)
        if is_url(run):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for file in FILES:
                buckets.download_file(buckets.join(run, file), folder / file)
        for file in (metrics_file.NAME, IDENTITY):
            if not (folder / file).exists():
                raise InputError(f"there is no {buckets.join(run, file)}: expected the folders of runs, or their URLs")
        columns = report.read(folder / metrics_file.NAME)
        if not columns:
            raise InputError(f"{run} has recorded nothing yet: compare it after its first iterations")
        about = json.loads((folder / IDENTITY).read_text())
        sessions = metrics_file.sessions(folder / metrics_file.SESSIONS)
        facts = report.summary(columns, about, sessions, goodput.read(folder))
    return Run(name, columns, about, facts, _mattes(run, columns))


def _mattes(run: Location, columns: report.Columns) -> tuple[str, bytes] | None:
    """The picture of the last validation, with a word on it."""
    if "validation/mad" not in columns:
        return None
    _, iterations, mads = columns["validation/mad"]
    path = buckets.join(run, "validation", f"{iterations[-1]}.png")
    with contextlib.suppress(FileNotFoundError):
        png = buckets.read(path) if is_url(path) else Path(path).read_bytes()
        return None if png is None else (f"iteration {iterations[-1]:,}, MAD {label(mads[-1])}", png)
    return None


def _recipe(about: dict[str, Any]) -> dict[str, str]:
    """What decides the numbers of a run: recipe and data."""
    return dict(report.leaves({**with_defaults(about["recipe"]), "data": about.get("data", {})}))


def _differing(recipes: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Of each, only what is not the same in all."""
    every = dict.fromkeys(name for recipe in recipes for name in recipe)
    kept = [name for name in every if len({recipe.get(name) for recipe in recipes}) > 1]
    return [{name: recipe[name] for name in kept if name in recipe} for recipe in recipes]


def _table(title: str, columns: Sequence[dict[str, str]], names: Sequence[str]) -> Iterator[str]:
    yield f"<h2>{title}</h2>"
    rows = dict.fromkeys(name for column in columns for name in column)
    if not rows:
        yield '<p class="soft">Nothing.</p>'
        return
    yield page.table([["", *names], *([row, *(column.get(row, "–") for column in columns)] for row in rows)])


def _pictures(runs: Sequence[Run]) -> Iterator[str]:
    figures = [page.picture(run.name, png, side) for run in runs if run.mattes for side, png in [run.mattes]]
    if figures:
        yield "<h2>Mattes of the last validation</h2>"
        yield f'<div class="mattes">{"".join(figures)}</div>'


def _curves(runs: Sequence[Run]) -> Iterator[str]:
    """All charts that two runs can share, a section for each kind of number."""
    sections: dict[str, list[str]] = {"Validation": [], **{title: [] for title in report.PASSES.values()}}
    nothing = Line("", np.zeros(0, int), np.zeros(0))  # a run that lacks a number leaves its colour unused
    names = dict.fromkeys(name for run in runs for name in run.columns)
    for name in sorted(names, key=lambda name: not name.endswith("/total")):
        kind, _, rest = name.rpartition("/")
        if name in report.UNCHARTED | NOT_COMPARED or "gradient_norm" in name:
            continue
        speed = kind in ("", "seconds")
        title = "Speed" if speed else report.PASSES.get(kind, kind.replace("_", " ").capitalize())
        lines = [run.columns.get(name, nothing)._replace(name=run.name) for run in runs]
        lines = [line._replace(name=f"{line.name}: {label(line.y[-1]) if len(line.y) else '–'}") for line in lines]
        unit = "seconds" if kind == "seconds" else report.UNITS.get(name, "")
        smooth = (speed or kind in report.PASSES) and name != "goodput"
        sections.setdefault(title, []).append(report.figure(rest, lines, unit, {}, log=not speed, smooth=smooth))
    for title, figures in sections.items():
        yield from page.section(title, figures)
