"""What the names of targets stand for."""

import pytest

from rvm_jax.errors import InputError
from rvm_jax.video.writing import targets


@pytest.mark.parametrize(
    ("name", "ending", "keeps_alpha"),
    [
        ("out.mp4", ".mp4", False),
        ("out.MOV", ".mov", True),
        ("out", "", True),
        ("out.v2/", "", True),
        ("take1.2/", "", True),
        ("-", "nut", True),
        ("virtual", "virtual", False),
        ("virtual:/dev/video9", "virtual", False),
        ("./virtual", "", True),
        ("rtmp://127.0.0.1/live/key", "flv", False),
        ("srt://127.0.0.1:9000", "mpegts", False),
        ("rtsp://127.0.0.1/live", "rtsp", False),
    ],
)
def test_names(name, ending, keeps_alpha):
    one = targets.target(name)
    assert (one.ending, one.keeps_alpha) == (ending, keeps_alpha)
    assert (one.path is None) == (ending in ("nut", "virtual", "flv", "mpegts", "rtsp"))


def test_a_pipe_gets_what_is_asked_for():
    assert [targets.target("-", pipe).keeps_alpha for pipe in ("nut", "y4m", "raw")] == [True, False, True]


@pytest.mark.parametrize("name", ["http://127.0.0.1/out.mp4", "gs://bucket/out.mp4"])
def test_other_urls_are_refused(name):
    with pytest.raises(InputError, match="expected a path on this machine, not a URL"):
        targets.target(name)


def test_one_pipe_holds_one_thing():
    with pytest.raises(InputError, match="- is to hold several things"):
        targets.check({}, [targets.target("-"), targets.target("-")], force=False)


def test_one_output_does_not_lie_in_another(tmp_path):
    """Which is a folder that is made anew."""
    outputs = [targets.target(tmp_path / "out"), targets.target(tmp_path / "out" / "alpha.mp4")]
    with pytest.raises(InputError, match=r"out/alpha.mp4 would lie in .*/out, which is made anew"):
        targets.check({}, outputs, force=True)


def test_no_output_is_another_input(tmp_path):
    (tmp_path / "b.mp4").touch()
    names = [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]
    with pytest.raises(InputError, match=r"b.mp4 is what is to be matted"):
        targets.check(targets.read_places(names), [targets.target(tmp_path / "b.mp4")], force=True)
