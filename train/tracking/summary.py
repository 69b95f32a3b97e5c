"""What a run came to, in the few facts by which others compare it: read from the files in its folder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rvm_jax.errors import InputError
from train.run.run_folder import IDENTITY
from train.tracking import goodput, metrics_file

SECONDS_AN_HOUR = 3600


class Summary(NamedTuple):
    """A run's facts.

    Attributes:
        facts: `seed`, `stage`, `iterations`, `hardware`, `hours`, `frames_per_second`, `precision`, `commit`, `wandb`;
            None where the folder does not tell.
        recipe: As `recipe.json` has it, but for the seed.
        fingerprints: Of its data, by the names that the recipe gives them.
    """

    facts: dict[str, Any]
    recipe: dict[str, Any]
    fingerprints: dict[str, str]


def summarize(folder: Path) -> Summary | None:
    """The summary of a run's folder; None of a folder that is none."""
    if not (folder / IDENTITY).is_file():
        return None
    try:
        identity = json.loads((folder / IDENTITY).read_text())
        recipe, lengths = dict(identity["recipe"]), identity["iterations"]
        seed, fingerprints = recipe.pop("seed"), identity["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / IDENTITY} does not say what the run is ({error}): give another folder") from error
    metrics = list(metrics_file.read(folder / metrics_file.NAME)) if (folder / metrics_file.NAME).exists() else []
    iterations = [line for line in metrics if "stage" in line]
    sessions = metrics_file.sessions(folder / metrics_file.SESSIONS)
    last = sessions[-1] if sessions else {}
    stages = [number for number, count in lengths.items() if count]
    facts = {
        "seed": seed,
        "stage": f"{iterations[-1]['stage']:.0f} of {stages[-1]}" if iterations and stages else None,
        "iterations": int(iterations[-1]["iteration"]) + 1 if iterations else None,
        "hardware": last.get("devices"),
        "hours": round(seconds / SECONDS_AN_HOUR, 4) if (seconds := _seconds(folder, metrics)) else None,
        "frames_per_second": _median([line.get("frames_per_second", np.nan) for line in iterations]),
        "precision": recipe.get("precision"),
        "commit": last.get("revision"),
        "wandb": _wandb(folder),
    }
    return Summary(facts, recipe, fingerprints)


def _seconds(folder: Path, metrics: list[dict[str, float]]) -> float:
    """How long it ran: as its clock says, or, of an earlier version, from its first metrics to its last."""
    spent = sum(goodput.total(goodput.read(folder)).values())
    times = [line["time"] for line in metrics if "time" in line]
    return spent or (times[-1] - times[0] if times else 0.0)


def _median(values: list[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return round(float(np.median(known)), 3) if known else None


def _wandb(folder: Path) -> str | None:
    """The link of the W&B run, or the id of one that was recorded offline."""
    for name in ("wandb_url", "wandb_id"):
        if (folder / name).is_file() and (text := (folder / name).read_text().strip()):
            return text
    return None
