"""Picture files: which are read, and that nothing of Pillow's is changed by it."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import picture_files
from tests.rvm_jax import videos

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def test_of_pictures_no_more_is_read_than_their_four_kinds(tmp_path):
    program = tmp_path / "x.png"
    program.write_bytes(POSTSCRIPT)
    with Image.open(program) as followed:  # as Pillow does by itself
        assert followed.format == "EPS"
    with pytest.raises(InputError, match=r"x\.png cannot be read as a picture.*: cannot identify it$") as caught:
        picture_files.read_picture(program)
    assert "\n" not in str(caught.value)
    one, two = (Image.fromarray(frame) for frame in videos.moving(2))
    for name, kind, more in (
        ("of-a-phone.jpg", "MPO", {"save_all": True, "append_images": [two]}),
        ("a.jpg", "JPEG", {}),
        ("a.bmp", "BMP", {}),
        ("a.png", "PNG", {}),
        ("a.webp", "WEBP", {}),
    ):
        one.save(tmp_path / name, format=kind, **more)
        with picture_files.open_picture(tmp_path / name) as opened:
            assert opened.format == kind
        assert picture_files.read_picture(tmp_path / name).size == (64, 48)


def test_threads_leave_the_limit_of_pillow_as_it_is(tmp_path):
    """For the moment in which a picture is opened there is none, for all of the process."""
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    before, interval = Image.MAX_IMAGE_PIXELS, sys.getswitchinterval()
    assert before
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(picture_files.read_picture, [tmp_path / "a.png"] * 400))
        assert before == Image.MAX_IMAGE_PIXELS
    finally:
        Image.MAX_IMAGE_PIXELS = before
        sys.setswitchinterval(interval)
