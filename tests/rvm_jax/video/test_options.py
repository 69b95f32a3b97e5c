"""Options that are refused before anything is read."""

import pytest

from rvm_jax.errors import InputError
from rvm_jax.video import options
from rvm_jax.video.writing.targets import target

USUAL = {"quality": "high", "mbps": None, "pictures": "png", "pipe": "nut"}


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["out.mov"], {"mbps": 3.0}, "--mbps is given, but out.mov has no bit rate to choose"),
        (["-"], {"mbps": 3.0}, "--mbps is given, but - has no bit rate to choose"),
        (["out"], {"quality": "low"}, "--quality low is given, but out has no bit rate to choose"),
        (["out.mov"], {"pictures": "exr"}, "--pictures exr is for a folder of pictures, which out.mov is not"),
        (["out.mp4"], {"pipe": "y4m"}, "--pipe y4m is for standard output, and out.mp4 is a file"),
        (["out.mov", "alpha.mp4"], {"quality": "low"}, None),
        (["rtmp://127.0.0.1/live"], {"mbps": 3.0}, None),
        (["out.mov", "alpha"], {"pictures": "tif"}, None),
        (["-"], {"pipe": "raw"}, None),
        (["out.mov"], {}, None),
    ],
)
def test_what_changes_nothing_is_refused(names, given, message):
    def check():
        options.check_written([target(name) for name in names], **(USUAL | given))

    if message is None:
        check()
    else:
        with pytest.raises(InputError, match=f"^{message}"):
            check()


def test_numbers_are_above_zero():
    options.check_numbers(chunk=None, camera_rate=30)
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match=r"^--camera-rate .*: expected a number above 0$"):
            options.check_numbers(camera_rate=wrong)
