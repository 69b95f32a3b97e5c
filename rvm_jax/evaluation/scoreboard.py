"""Results of an evaluation: means, tables beside the published figures, files, and a page with pictures and curves."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from rvm_jax.evaluation import layout, side_by_side
from rvm_jax.evaluation.evaluate import Scored
from rvm_jax.evaluation.layout import EvaluationClip
from rvm_jax.evaluation.methods import in_file_names
from rvm_jax.evaluation.scoring import METRICS, means
from rvm_jax.evaluation.speed import Speed
from rvm_jax.host.files import replacing
from rvm_jax.report import charts, page
from rvm_jax.report.charts import Line

Results = Mapping[str, Sequence[Scored]]
"""The scored clips of each method."""

Row = tuple[str, Mapping[str, float]]
"""A method, and its mean of each metric."""

PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "VideoMatte, 512×288": {
        "MODNet (published)": (9.41, 4.30, 1.89, 0.81, 2.23, None, None),
        "BGMv2 (published)": (25.19, 19.63, 2.28, 3.26, 2.74, None, None),
        "RVM (published)": (6.08, 1.47, 0.88, 0.41, 1.36, None, None),
    },
    "D646, 512×512": {
        "MODNet (published)": (10.62, 5.71, 3.35, 2.45, 1.57, None, 6.31),
        "BGMv2 (published)": (43.62, 38.84, 5.41, 11.32, 3.08, None, 2.60),
        "RVM (published)": (7.28, 3.01, 2.81, 1.83, 1.01, None, 2.93),
    },
    "AIM, 512×512": {
        "MODNet (published)": (21.66, 14.27, 5.37, 5.23, 1.76, None, 9.51),
        "BGMv2 (published)": (44.61, 39.08, 5.54, 11.60, 2.69, None, 3.31),
        "RVM (published)": (14.84, 8.93, 4.35, 3.83, 1.01, None, 5.01),
    },
    "VideoMatte, 1920×1080": {
        "MODNet + fast filter (published)": (11.13, 5.54, 15.30, None, 3.08, None, None),
        "RVM (published)": (6.57, 1.93, 10.55, None, 1.90, None, None),
        "RVM, ResNet-50 (published)": (5.81, 0.97, 9.65, None, 1.78, None, None),
    },
    "D646, 2048×2048": {"RVM (published)": (8.67, 4.28, 30.06, None, 1.64, None, None)},
    "AIM, 2048×2048": {"RVM (published)": (14.89, 9.01, 34.97, None, 1.71, None, None)},
}
"""Figures of the paper, in the order of `PUBLISHED_METRICS`."""

PUBLISHED_METRICS = ("mad", "mse", "grad", "conn", "dtssd", "fgr_mad", "fgr_mse")

HIGH_RESOLUTION = 1080
"""The short side from which on its Grad is that of alphas that are not stretched (`metrics.gradient`)."""

SETS = {"VideoMatte": "video_?matte(_?240k)?|vm", "D646": "d646", "AIM": "aim"}
"""Names of datasets that those figures are of, as regular expressions; a size and a kind of background may follow."""

ALL_METHODS = "methods.png"
SHOWN = 4
LABEL = 18


class Dataset(NamedTuple):
    name: str
    parts: Sequence[str]
    """The folders of the test set that it consists of."""
    rows: list[Row]


def datasets(results: Results) -> Iterator[Dataset]:
    """The mean of every method over the clips of each folder; and over both kinds of background, if there are both."""
    folders = list(dict.fromkeys(scored.dataset for clips in results.values() for scored in clips))
    whole: dict[str, list[str]] = {}
    for folder in folders:
        base = next((folder.removesuffix(kind) for kind in ("_static", "_motion") if folder.endswith(kind)), folder)
        whole.setdefault(base, []).append(folder)
    for base, parts in whole.items():
        for part in parts:
            yield Dataset(part, [part], _rows(results, [part]))
        if len(parts) > 1:
            yield Dataset(base, parts, _rows(results, parts))


def _rows(results: Results, parts: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for method, clips in results.items():
        each = [means(scored.scores) for scored in clips if scored.dataset in parts]
        metrics = [metric for metric in METRICS if all(metric in one for one in each)]
        rows.append((method, {metric: float(np.mean([one[metric] for one in each])) for metric in metrics}))
    return rows


def published(
    dataset: str, size: tuple[int, int], *, high_resolution: bool = False, other_composites: bool = False
) -> list[Row]:
    """The published rows to compare with: those of the same dataset in frames of the same (height, width).

    Without Grad, if theirs has another definition than what was scored with or without `high_resolution`. With
    `other_composites` they are marked as being of others, since people before other backgrounds are another set.
    """
    ending = r"(_[sh]d|_4k|_\d+x\d+)?(_static|_motion)?"
    name = next((name for name, start in SETS.items() if re.fullmatch(f"({start}){ending}", dataset.lower())), None)
    rows = PUBLISHED.get(f"{name}, {size[1]}×{size[0]}", {})
    others = set() if (min(size) >= HIGH_RESOLUTION) == high_resolution else {"grad"}
    mark = "published, other composites" if other_composites else "published"
    found: list[Row] = []
    for method, values in rows.items():
        known = {m: v for m, v in zip(PUBLISHED_METRICS, values, strict=True) if v is not None and m not in others}
        found.append((method.replace("published", mark), known))
    return found


def tables(
    results: Results,
    clips: Sequence[EvaluationClip],
    *,
    high_resolution: bool = False,
    other_composites: bool = False,
) -> dict[str, list[list[str]]]:
    """A table for each dataset, by its title; with the published rows if all of its clips have their size."""
    sizes = {clip.label: layout.size(clip) for clip in clips}
    found = {}
    for dataset, parts, rows in datasets(results):
        those = [clip for clip in clips if clip.dataset in parts]
        size, *others = {sizes[clip.label] for clip in those}
        pixels = "several sizes" if others else f"{size[1]}×{size[0]}"
        alike = {"high_resolution": high_resolution, "other_composites": other_composites}
        beside = [] if others else published(dataset, size, **alike)
        title = f"{dataset}, {pixels}, {len(those)} clip{'s' if len(those) > 1 else ''}{_partly(those)}"
        found[title] = table([*rows, *beside])
    return found


def _partly(clips: Sequence[EvaluationClip]) -> str:
    """What a title says of clips of which not all frames have truth."""
    known, frames = sum(len(clip.pha) for clip in clips), sum(len(clip.frames) for clip in clips)
    untold = ", so no dtSSD" if any(clip.has_gaps for clip in clips) else ""
    return "" if known == frames else f", truth on {known:,} of {frames:,} frames{untold}"


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Rows of text, the first with the names of the metrics that there are."""
    shown = [metric for metric in METRICS if any(metric in values for _, values in rows)]
    body = [[name, *(f"{values[m]:.2f}" if m in values else "–" for m in shown)] for name, values in rows]
    return [["", *(METRICS[metric] for metric in shown)], *body]


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """A table for the terminal: names on the left, numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    )


def markdown(cells: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def linked(text: str, url: str) -> str:
    """A link in Markdown, or the text alone where there is no address."""
    return f"[{text}]({url})" if url else text


def speed_table(speeds: Mapping[str, tuple[int, Mapping[str, Speed]]]) -> list[list[str]]:
    """Parameters, multiply-adds and frames a second of each network."""
    sizes = list(next(iter(speeds.values()))[1])
    head = ["", "parameters", *(f"{what} {size}" for size in sizes for what in ("GMACs", "frames/s"))]
    rows = []
    for name, (parameters, measured) in speeds.items():
        cells = [
            cell
            for speed in measured.values()
            for cell in (
                f"{speed.multiply_adds / 1e9:.2f}",
                "–" if speed.frames_per_second is None else f"{speed.frames_per_second:.1f}",
            )
        ]
        rows.append([name, f"{parameters:,}", *cells])
    return [head, *rows]


def write(
    out: Path,
    results: Results,
    tables: Mapping[str, Sequence[Sequence[str]]],
    about: Mapping[str, Any],
) -> list[Path]:
    """Write `results.json`, `.csv` and `.md`, sheets of pictures of each method and of all, and `report.html`."""
    sheets = {name: sheet(clips) for name, clips in results.items()}
    means_of = {name: dict(rows) for name, _, rows in datasets(results)}
    found = {**about, "means": means_of, "clips": _frames(results)}
    texts = {
        "results.json": json.dumps(found, indent=1, allow_nan=False) + "\n",
        "results.csv": _csv(results),
        "results.md": "\n\n".join(f"## {name}\n\n{markdown(cells)}" for name, cells in tables.items()) + "\n",
    }
    for name, text in texts.items():
        with replacing(out / name, overwrite=True) as path:
            path.write_text(text, encoding="utf-8")
    pngs = {}
    if len(results) > 1:
        pngs["all methods"] = out / ALL_METHODS
        side_by_side.write(pngs["all methods"], results)
    for name, image in sheets.items():
        pngs[name] = out / f"frames_{in_file_names(name)}.png"
        with replacing(pngs[name], overwrite=True) as path:
            image.save(path, "PNG")
    page.write(out / "report.html", "evaluation", _body(results, tables, pngs))
    return [*(out / name for name in texts), *pngs.values(), out / "report.html"]


def over_time(results: Results, dataset: str, metric: str) -> list[Line]:
    """The mean over the clips of a dataset, of the frames that all of them have truth for: does memory help?"""
    lines = []
    for method, clips in results.items():
        first = 1 if metric == "dtssd" else 0  # which has no frame before it
        found = [
            dict(list(zip(scored.numbers, scored.scores[metric], strict=True))[first:])
            for scored in clips
            if scored.dataset == dataset and metric in scored.scores
        ]
        if found:
            numbers = sorted(set.intersection(*map(set, found)))
            lines.append(Line(method, np.asarray(numbers), np.array([np.mean([y[x] for y in found]) for x in numbers])))
    return lines


def sheet(clips: Sequence[Scored]) -> Image.Image:
    """The worst frames of the worst clips, and the middle frames of the middle ones, by MAD."""
    order = sorted(clips, key=lambda scored: float(np.mean(scored.scores["mad"])))
    middle = order[max(0, (len(order) - SHOWN) // 2) :][:SHOWN]
    rows = [("worst", scored, scored.worst) for scored in order[::-1][:SHOWN]]
    rows += [("median", scored, scored.median) for scored in middle]
    strips = []
    for kind, scored, path in rows:
        with Image.open(path) as stored:
            strips.append((kind, scored, stored.convert("RGB")))
    width = max(image.width for *_, image in strips)
    whole = Image.new("RGB", (width, sum(image.height + LABEL for *_, image in strips)), "white")
    draw, top = ImageDraw.Draw(whole), 0
    for kind, scored, image in strips:
        mads = scored.scores["mad"]
        frame = int(np.argsort(mads, kind="stable")[-1 if kind == "worst" else len(mads) // 2])
        label = f"{scored.dataset}/{scored.clip}, {kind} frame {scored.numbers[frame]}: MAD {mads[frame]:.2f}"
        draw.text((4, top + 3), label, "black")
        whole.paste(image, (0, top + LABEL))
        top += image.height + LABEL
    return whole


def _frames(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "dataset": scored.dataset,
            "clip": scored.clip,
            "numbers": scored.numbers,
            "frames": scored.scores,
        }
        for method, clips in results.items()
        for scored in clips
    ]


def _csv(results: Results) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "dataset", "clip", *METRICS])
    for method, clips in results.items():
        for scored in clips:
            mean = means(scored.scores)
            writer.writerow([method, scored.dataset, scored.clip, *(mean.get(metric, "") for metric in METRICS)])
    return text.getvalue()


def _body(results: Results, tables: Mapping[str, Sequence[Sequence[str]]], pngs: Mapping[str, Path]) -> Iterator[str]:
    yield "<h1>Evaluation</h1>"
    yield '<p class="soft">Lower is better. Means over the frames of a clip, then over clips.</p>'
    for name, cells in tables.items():
        yield f"<h2>{escape(name)}</h2>"
        yield page.table(cells)
    figures = []
    for dataset in dict.fromkeys(scored.dataset for clips in results.values() for scored in clips):
        for metric in ("mad", "dtssd"):
            lines = over_time(results, dataset, metric)
            if lines and min(len(line.x) for line in lines) > 1:
                drawing = charts.chart(lines, unit=METRICS[metric], marks={}, smooth=False, across="frame")
                figures.append(page.figure(f"{METRICS[metric]} of {escape(dataset)}", drawing, lines))
    yield from page.section("Over time", figures)
    yield "<h2>Worst and median frames</h2>"
    yield (
        '<p class="soft">Of each method, from left to right: input, true matte, predicted matte, and the difference: '
        "red where there is too much, blue where there is too little. Of all methods: the same frames.</p>"
    )
    for name, path in pngs.items():
        yield page.picture(name, path.read_bytes())
