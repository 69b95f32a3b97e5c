"""Time bases and timestamps: exact, and continuous where a file was joined from several."""

from fractions import Fraction

import pytest

from rvm_jax.video.reading.timestamps import Clock, Joints, time_base_of, to_time_base

MILLISECOND = Fraction(1, 1000)
NTSC = Fraction(30000, 1001)
STEP = Fraction(1, 25)


@pytest.mark.parametrize(
    ("ticks", "rate", "expected"),
    [
        (Fraction(1, 12800), Fraction(25), Fraction(1, 12800)),  # not rounded to milliseconds
        (MILLISECOND, Fraction(25), MILLISECOND),  # a frame lasts whole milliseconds
        (MILLISECOND, NTSC, Fraction(1, 30000)),
        (MILLISECOND, Fraction(24000, 1001), Fraction(1, 24000)),
        (MILLISECOND, Fraction(60), Fraction(1, 3000)),
        (MILLISECOND, Fraction(999_983, 7), MILLISECOND),  # too fine a time base for files
    ],
    ids=str,
)
def test_the_time_base_has_the_ticks_and_the_frame_rate(ticks, rate, expected):
    assert time_base_of(Clock(ticks, 0, rate)) == expected


@pytest.mark.parametrize("rate", [NTSC, Fraction(24000, 1001), Fraction(60)], ids=str)
def test_rounded_times_are_put_back_and_others_are_kept(rate):
    clock = Clock(MILLISECOND, 0, rate)
    base = time_base_of(clock)
    for number in range(1000):
        assert to_time_base(round(number / rate / MILLISECOND), clock, base) * base == number / rate
    halfway = round(Fraction(1, 2) / rate / MILLISECOND)  # no frame of this rate is near it
    assert to_time_base(halfway, clock, base) * base == halfway * MILLISECOND


def test_seconds_count_from_the_first_of_all_streams():
    clock = Clock(Fraction(1, 90000), 126000, Fraction(25))
    assert clock.seconds(126000, clock.ticks) == 0
    assert clock.seconds(48000 * 2, Fraction(1, 48000)) == 2 - Fraction(126000, 90000)


def joined(times: list[tuple[int, Fraction]]) -> list[Fraction | None]:
    """The times of (stream, time), one after the other, as they become."""
    joints = Joints()
    shifts = [joints.shift(stream, time, STEP) for stream, time in times]
    return [None if shift is None else time + shift for (_, time), shift in zip(times, shifts, strict=True)]


def test_times_without_a_joint_stay():
    out_of_order = [(0, STEP * number) for number in (0, 3, 1, 2, 4)]  # less than a second back
    assert joined(out_of_order) == [time for _, time in out_of_order]


def test_behind_a_joint_all_streams_go_on_by_as_much():
    first = [(0, STEP * number) for number in range(100)]
    assert joined([*first, *first, *first]) == [STEP * number for number in range(300)]
    # The sound of the second part lies 0.1 s behind its frames, as it did before the joint.
    sound = [(1, Fraction(1, 10)), (1, Fraction(39, 10))]
    both = [*first, *sound, *first, *sound]
    assert joined(both)[-2:] == [4 + Fraction(1, 10), 4 + Fraction(39, 10)]


def test_what_a_stream_had_already_behind_its_joint_is_left_out():
    """The sound of the first part goes on a second behind its frames, and so over the first second of the next part."""
    frames = [(0, STEP * number) for number in range(100)]
    sound = [(1, STEP * number) for number in range(125)]
    times = joined([*frames, *frames, *sound, *sound])
    assert times[200:325] == [STEP * number for number in range(125)]
    assert times[325:] == [None] * 25 + [4 + STEP * number for number in range(25, 125)]
