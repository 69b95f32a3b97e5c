"""Goodput: what is kept of where the time went, over sessions that end and that are killed."""

import contextlib
import json
import re

import pytest

from rvm_jax.errors import Stopped
from tests.train.tracking import telling
from tests.train.tracking.telling import numbers
from train.tracking import goodput, report
from train.tracking.clock import Clock
from train.tracking.tracker import Tracker

folder = telling.folder
NOTHING = dict.fromkeys(goodput.KINDS, 0.0)


def tell(tracker, begin, end):
    for i in range(begin, end):
        tracker._clock.seconds["compute"] += 10
        tracker.log_iteration(i, {**numbers(i), "seconds/compute": 10.0})


def test_a_line_tells_what_took_the_time():
    sessions = [{**NOTHING, "compute": 30.0, "data": 20.0}, {"compute": 20.0, "compiling": 29.8, "host": 0.2}]
    assert goodput.describe(sessions) == "goodput 50% of 0:01:40 in 2 sessions: compute 50%, compiling 30%, data 20%"
    assert goodput.share(goodput.total(sessions)) == pytest.approx(0.5)


def test_sessions_add_up_and_what_a_killed_one_lost_is_not_useful(folder):
    """The first is killed after 5 iterations, and goes on after 3; the time is that of its last flush."""
    killed = Tracker(folder, 0, 6, wandb="disabled", clock=Clock())
    tell(killed, 0, 5)
    killed.flush()
    with Tracker(folder, 3, 6, wandb="disabled", clock=Clock()) as tracker:
        (first,) = tracker._earlier
        assert (first["compute"], first["repeated"]) == (30, 20)
        tell(tracker, 3, 6)
    killed._file.close()
    sessions = goodput.read(folder)
    assert [session["compute"] for session in sessions] == [30, 30]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["goodput"] for line in lines] == pytest.approx([1, 1, 1, 0.667, 0.714, 0.75], abs=0.01)


def test_a_session_that_is_killed_before_it_trains_counts_as_well(folder):
    """The first loses 20 seconds, of which the third knows although the second was killed while it compiled."""
    trackers = [Tracker(folder, 0, 6, wandb="disabled", clock=Clock())]
    tell(trackers[0], 0, 5)
    trackers[0].flush()
    for compiled in (40.0, 50.0):
        trackers.append(Tracker(folder, 3, 6, wandb="disabled", clock=Clock()))
        assert len(goodput.read(folder)) == len(trackers) - 1
        trackers[-1]._clock.seconds["compiling"] += compiled
        trackers[-1].message("compiled a program")
    for tracker in trackers:
        tracker._file.close()
    first, *others = goodput.read(folder)
    assert (first["compute"], first["repeated"]) == (30, 20)
    assert [session["compiling"] for session in others] == [40, 50]


def test_a_run_that_ends_or_is_stopped_says_so_and_one_that_fails_does_not(folder, capsys):
    for error in (None, Stopped("stopped", None), ValueError()):
        expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
        with expected, Tracker(folder, 0, 1, wandb="disabled", clock=Clock()) as tracker:
            tracker._clock.seconds["compute"] += 3600
            if error:
                raise error
    told = re.findall(r"^goodput 100% of (.*): compute", capsys.readouterr().err, re.M)
    assert told == ["1:00:00", "2:00:00 in 2 sessions"]


def test_a_progress_line_tells_of_devices_that_wait_for_data(folder, capsys):
    for share in (0.25, 0.0):
        with Tracker(folder, 0, 1, wandb="disabled") as tracker:
            tracker.log_iteration(0, {**numbers(0), "data_wait": share})
    told = capsys.readouterr().err.splitlines()
    assert [line.partition("40.0 frames/s, ")[2] for line in told] == [
        "25% of the time waiting for data, 00:00 left",
        "00:00 left",
    ]


def test_the_report_says_where_the_time_went(folder):
    (folder / "recipe.json").write_text(json.dumps({"recipe": {"variant": "tiny", "stages": {}}, "iterations": {}}))
    with Tracker(folder, 0, 1, wandb="disabled", clock=Clock()) as tracker:
        tracker._clock.seconds |= {"compute": 60.0, "checkpoints": 60.0}
        tracker.flush()
        tell(tracker, 0, 1)
    text = report.write(folder).read_text()
    assert "<div>goodput</div><b>54%</b>" in text
    assert "<th>compute</th><td>0:01:10</td><td>53.8%</td>" in text
    goodput.write(folder, [])
    assert "goodput</div>" not in report.write(folder).read_text()
