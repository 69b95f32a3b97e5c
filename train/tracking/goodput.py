"""Goodput: the share of a run's time in which its devices computed what it needed, over all of its sessions.

`time_spent.json` in the run's folder has the seconds of each session by `clock.PHASES`. It is written anew every few
seconds, so that of a session that is killed only the last are missing. What a killed session computed after its last
checkpoint is computed again: then it is no longer `compute` of that session, but `repeated`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rvm_jax.host.files import replacing
from train.tracking.clock import PHASES

NAME = "time_spent.json"
KINDS = (*PHASES, "repeated")

Seconds = Mapping[str, float]


def read(folder: Path) -> list[Seconds]:
    """The seconds of each session, in order; none of a run of an earlier version."""
    try:
        return json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return []


def write(folder: Path, sessions: Sequence[Seconds]) -> None:
    """Write those of all sessions."""
    lines = [json.dumps({kind: round(seconds, 3) for kind, seconds in session.items()}) for session in sessions]
    with replacing(folder / NAME, overwrite=True) as partial:
        partial.write_text("[" + ",\n ".join(lines) + "]\n")


def repeated(sessions: Sequence[Seconds], computed: float) -> list[Seconds]:
    """The same, where so many seconds of what the last one computed are lost."""
    if not sessions or not computed:
        return list(sessions)
    *others, last = sessions
    lost = min(computed, last["compute"])
    return [*others, {**last, "compute": last["compute"] - lost, "repeated": last.get("repeated", 0) + lost}]


def total(sessions: Sequence[Seconds]) -> dict[str, float]:
    """The seconds of each kind in all sessions."""
    return {kind: sum(session.get(kind, 0.0) for session in sessions) for kind in KINDS}


def share(seconds: Seconds) -> float:
    """The goodput."""
    return seconds["compute"] / max(sum(seconds.values()), 1e-9)


def describe(sessions: Sequence[Seconds]) -> str:
    """A line for a person; what took less than half a percent is left out."""
    seconds = total(sessions)
    everything = max(sum(seconds.values()), 1e-9)
    parts = sorted(seconds.items(), key=lambda part: -part[1])
    told = [f"{kind} {spent / everything:.0%}" for kind, spent in parts if spent >= everything / 200]
    where = f" in {len(sessions)} sessions" if len(sessions) > 1 else ""
    return f"goodput {share(seconds):.0%} of {timedelta(seconds=round(everything))}{where}: {', '.join(told)}"
