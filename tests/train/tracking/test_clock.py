"""The clock of a run: every second is of one phase, and what the host does while devices compute is theirs."""

from types import SimpleNamespace

import jax
import pytest

from train.tracking import clock
from train.tracking.clock import Clock, PassTimes, speed


@pytest.fixture
def now(monkeypatch):
    """A function that sets what the time is."""
    time = SimpleNamespace(perf_counter=lambda: time.now, now=0.0)
    monkeypatch.setattr(clock, "time", time)
    return lambda seconds: setattr(time, "now", float(seconds))


def computed(asked, came, given, dispatched, there, ended):
    times = PassTimes(asked, came, given, dispatched)
    times.on_devices.set_result((there, ended))
    return times


def end(timed, passes):
    timed._computing = len(passes)
    return timed.end_iteration(passes)


def spent(timed):
    return {phase: seconds for phase, seconds in timed.seconds.items() if seconds}


def test_what_the_host_does_while_devices_compute_is_compute(now):
    timed = Clock()
    assert end(timed, [computed(0, 0, 0, 1, 1, 10)]) == {"compute": 9, "data": 0, "transfer": 0, "host": 1}
    # The next batch was awaited from 2 to 9, but there was something to compute until 10.
    found = end(timed, [computed(2, 9, 9, 9.5, 9.5, 20)])
    assert found == {"compute": 10, "data": 0, "transfer": 0, "host": 0}


def test_devices_that_have_nothing_to_do_wait_for_one_thing_at_a_time(now):
    timed = Clock()
    end(timed, [computed(0, 0, 0, 0, 0, 10)])
    passes = [computed(5, 13, 14, 15, 17, 20), computed(16, 18, 18, 18, 18, 25), computed(27, 30, 30, 30, 30, 31)]
    found = end(timed, passes)
    assert found == {"data": 3 + 3, "transfer": 1 + 2, "host": 1 + 2, "compute": 3 + 5 + 1}
    assert sum(found.values()) == 31 - 10


def test_phases_within_phases_are_counted_once(now):
    timed = Clock()
    now(1)
    with timed.during("host"):
        now(3)
        with timed.during("checkpoints"):
            now(6)
            with timed.during("validation"):
                now(10)
            now(15)
        end(timed, [computed(15, 16, 16, 16, 16, 21)])
        now(22)
    now(28)
    assert {phase: seconds for phase, seconds in timed.now().items() if seconds} == {
        "starting": 1 + 6,
        "host": 2 + 1,
        "checkpoints": 3 + 5,
        "validation": 4,
        "data": 1,
        "compute": 5,
    }


def test_to_look_while_devices_compute_takes_nothing_from_them(now):
    timed = Clock()
    times = PassTimes(0.0)
    timed.dispatched(times, None, None)
    now(8)
    assert sum(timed.now().values()) == 0
    times.on_devices.set_result((0.0, 9.0))
    timed.end_iteration([times])
    now(11)
    with timed.during("compiling"):
        now(12)
    assert spent(timed) == {"compute": 9, "starting": 2, "compiling": 1}


def test_what_the_host_does_before_it_asks_for_a_pass_is_the_hosts(now):
    timed = Clock()
    for _, passes in timed.feed([(0, ["pass"])]):
        now(7)
        ((times, _),) = passes
        assert times.asked == 7


def test_the_streams_of_a_stage_are_data(now):
    def feed():
        now(4)
        yield 0, iter(["low"])
        now(30)
        yield 1, iter(["low"])

    timed = Clock()
    iterations = timed.feed(feed())
    _, passes = next(iterations)
    assert spent(timed) == {"data": 4}
    ((times, one),) = passes
    assert one == "low"
    timed.dispatched(times, None, None)
    now(6)
    next(iterations)  # while devices compute
    assert spent(timed) == {"data": 4}


def test_passes_are_seen_to_end_on_devices():
    add = jax.jit(lambda x: x + 1)
    with Clock() as timed:
        passes = []
        for _, given in timed.feed([(0, [1.0, 2.0])]):
            for times, number in given:
                times.given = times.came
                timed.dispatched(times, number, add(number))
                passes.append(times)
        seconds = timed.end_iteration(passes)
    begin = passes[0].on_devices.result()
    assert passes[0].dispatched <= begin[0] <= begin[1] <= passes[1].on_devices.result()[1]
    assert seconds["compute"] > 0


def test_a_pass_that_fails_fails_for_whoever_asks():
    class Broken:
        def block_until_ready(self):
            raise RuntimeError("out of memory")

    with Clock() as timed:
        times = PassTimes(0.0)
        timed.dispatched(times, None, Broken())
        with pytest.raises(RuntimeError, match="out of memory"):
            timed.end_iteration([times])
        other = PassTimes(0.0)
        timed.dispatched(other, None, None)
        assert other.on_devices.result()


def test_speed_is_of_all_the_time_and_of_all_devices():
    seconds = {"compute": 1.5, "data": 0.5, "transfer": 0.0, "host": 0.0}
    found = speed(seconds, 80, 4e12, None)
    assert found["frames_per_second"] == 40
    assert found["frames_per_second_per_device"] == 40 / jax.device_count()
    assert found["teraflops_per_device"] == 2
    assert found["data_wait"] == 0.25
    assert found["seconds/compute"] == 1.5
    assert "mfu" not in found
    assert speed(seconds, 80, 4e12, 10e12)["mfu"] == 0.2
