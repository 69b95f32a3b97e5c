"""Profiles: traces of just the iterations that were asked for, with their numbers."""

import jax
import pytest

from rvm_jax.errors import InputError
from train.recipe.options import Options
from train.tracking.profiling import Profile


def run(profile, numbers):
    add = jax.jit(lambda x: x + 1)
    with profile:
        for number in numbers:
            with profile.step(number):
                result = add(1.0)
            jax.block_until_ready(result)
            profile.ended(number)


def steps(folder):
    """The numbers of the iterations in the only trace there."""
    (path,) = folder.glob("plugins/profile/*/*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events if event.name == "train"]
    return sorted(dict(event.stats)["step_num"] for event in events)


@pytest.mark.parametrize(
    ("asked", "done", "traced"),
    [(range(2, 4), range(6), [2, 3]), (range(2, 5), range(3, 6), [3, 4]), (range(2, 9), range(4), [2, 3])],
    ids=["whole", "a run that goes on", "a run that is stopped"],
)
def test_a_profile_has_the_iterations_that_were_asked_for(asked, done, traced, tmp_path):
    told = []
    run(Profile(asked, tmp_path, told.append), done)
    assert steps(tmp_path) == traced
    assert told == [f"profiled from iteration {traced[0]} on: `xprof --logdir {tmp_path}` shows it"]


def test_what_is_not_asked_for_or_is_done_is_not_traced(tmp_path):
    run(Profile(None, tmp_path, pytest.fail), range(3))
    run(Profile(range(2), tmp_path, pytest.fail), range(2, 4))
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_cannot_be_written_costs_a_line(tmp_path):
    (tmp_path / "profile").write_text("in the way")
    told = []
    run(Profile(range(1), tmp_path / "profile", told.append), range(2))
    (line,) = told
    assert line.startswith("no profile could be written: ")


@pytest.mark.parametrize("asked", ["100", "5:5", "9:5", "a:b", "-1:3", "1:2:3", ""])
def test_what_is_no_range_is_refused(asked):
    with pytest.raises(InputError, match=f"^--profile {asked}: expected FIRST:END, such as 100:110 for"):
        Options(out="run", profile=asked)


def test_a_range_leaves_out_its_end():
    assert Options(out="run", profile="100:110").profiled == range(100, 110)
    assert Options(out="run").profiled is None
