import pytest

from rvm_jax.host import progress
from rvm_jax.host.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """What time it is, in a list."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then(clock, capfd):
    with Progress("talk.mp4") as shown:
        for seconds, done in ((10, 20), (31, 62), (40, 80), (62, 124)):
            clock[0] = seconds
            shown.update(done, 248)
    assert capfd.readouterr().err.splitlines() == [
        "talk.mp4: 62 of 248 frames, 2.0 frames/s, 01:33 left",
        "talk.mp4: 124 of 248 frames, 2.0 frames/s, 01:02 left",
    ]


def test_nobody_knows_how_long_a_stream_is(clock, capfd):
    with Progress("webcam") as shown:
        clock[0] = 40
        shown.update(100)
    assert capfd.readouterr().err == "webcam: 100 frames, 2.5 frames/s\n"


def test_what_was_there_already_took_no_time(clock, capfd):
    with Progress("preparing", "clips", total=100, reused=80) as shown:
        clock[0] = 40
        shown.update(90, frames=1000)
    assert capfd.readouterr().err == "preparing: 90 of 100 clips, 25.0 frames/s, 00:40 left\n"


def test_counts_add_up(clock, capfd):
    with Progress("ours", total=20) as shown:
        shown.add(4)
        clock[0] = 30
        shown.add(6)
    assert capfd.readouterr().err == "ours: 10 of 20 frames, 0.3 frames/s, 00:30 left\n"
