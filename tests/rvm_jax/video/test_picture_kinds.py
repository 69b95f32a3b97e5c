"""Kinds of pictures beyond the common ones: in true colours and depth, in and out."""

import contextlib
import io
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, features

from rvm_jax.errors import InputError
from rvm_jax.serve import uploads
from rvm_jax.video import backgrounds, hdr
from rvm_jax.video.frames import Colors, Part, Source
from rvm_jax.video.reading.picture_decoding import read_rgb
from rvm_jax.video.writing import picture_encoding
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_depth import MIRROR, matte_video, ramp
from tests.rvm_jax.video.test_source import read

PICTURE = videos.moving(1)[0]


def source(aspect: Fraction = Fraction(1)) -> Source:
    return Source("", 32, 1024, Fraction(1), Fraction(1), 1, iter(()), Colors(), aspect, ())


def fine(channels: int) -> np.ndarray:
    """uint16 [32, 1024, C], nowhere transparent."""
    alpha = 65535 - ramp(16)[..., :1] // 2
    return np.concatenate([ramp(16), alpha], -1) if channels == 4 else ramp(16)[..., :channels]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".exr"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_written_and_read(tmp_path, suffix, channels):
    path, pixels = tmp_path / f"a{suffix}", fine(channels)
    picture_encoding.save(pixels, path, suffix, source())
    back = read_rgb(path)
    assert (back.dtype, back.shape) == (np.uint16, (32, 1024, 3))
    if channels == 4:
        alpha = pixels[..., 3:] / 65535
        if suffix == ".exr":  # mixed as light is
            light = np.asarray(hdr.srgb_to_light(pixels[..., :3] / 65535)) * alpha + 1 - alpha
            expected = np.asarray(hdr.light_to_srgb(light)) * 65535
        else:
            expected = pixels[..., :3] * alpha + 65535 * (1 - alpha)
    elif channels == 1 and suffix == ".exr":
        expected = np.asarray(hdr.light_to_srgb(pixels / 65535)) * 65535
    else:
        expected = pixels.astype(float)
    # Half floats have 11 bits, and what shines through what is nearly opaque has fewer.
    most = {1: 40, 3: 40, 4: 500}[channels] if suffix == ".exr" else 1
    assert np.abs(back - expected).max() <= most
    assert len(np.unique(back[0, :, 0])) > 600


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_programs_see_alpha_that_is_straight(tmp_path, suffix):
    pixels = fine(4)
    picture_encoding.save(pixels, tmp_path / f"a{suffix}", suffix, source())
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == "RGBA"
        assert np.abs(np.asarray(image).astype(int) - pixels // 256).max() <= 1
        if suffix == ".tif":
            assert image.tag_v2[338] == (2,)  # type: ignore[attr-defined]


def test_an_exr_is_linear_and_multiplied_by_alpha(tmp_path):
    pixels = fine(4)
    picture_encoding.save(pixels, tmp_path / "a.exr", ".exr", source())
    context: Any = av.CodecContext.create("exr", "r")
    (frame,) = [*context.decode(av.Packet((tmp_path / "a.exr").read_bytes())), *context.decode(None)]
    green, blue, red, opaque = (np.frombuffer(plane, np.float16).reshape(32, -1)[:, :1024] for plane in frame.planes)
    stored = np.stack([red, green, blue, opaque], -1).astype(float)
    assert frame.format.name == "gbrapf16le"
    alpha = pixels[..., 3:] / 65535
    expected = np.concatenate([np.asarray(hdr.srgb_to_light(pixels[..., :3] / 65535)) * alpha, alpha], -1)
    assert np.abs(stored - expected).max() < 1e-3


@pytest.mark.parametrize(("kind", "suffix"), [("tif", ".tif"), ("exr", ".exr")])
def test_a_folder_of_them_and_one(tmp_path, kind, suffix):
    path = videos.write(tmp_path / "a.mkv", videos.moving(3), codec="ffv1", pixels="bgr0")
    matte_video(path, tmp_path / "out", weights=MIRROR, background="black", pictures=kind)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"000{n}{suffix}" for n in range(3)]
    matte_video(tmp_path / "out", tmp_path / f"b{suffix}", weights=MIRROR, end=0.03)
    assert read_rgb(tmp_path / f"b{suffix}").shape == (48, 64, 3)


def test_colours_of_a_profile_become_srgb(tmp_path):
    """Here of one whose red is the blue of sRGB, and the other way round."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"****").replace(b"bXYZ", b"rXYZ").replace(b"****", b"bXYZ")
    mine = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    assert mine != swapped != srgb
    for name, most in (("a.png", 1), ("a.tif", 1), ("a.jpg", 12)):
        Image.fromarray(PICTURE[..., ::-1].copy()).save(tmp_path / name, icc_profile=mine, quality=95)
        assert np.abs(read_rgb(tmp_path / name).astype(int) - PICTURE).mean() <= most
    for profile in (srgb, b"no profile"):
        Image.fromarray(PICTURE).save(tmp_path / "b.png", icc_profile=profile)
        assert (read_rgb(tmp_path / "b.png") == PICTURE).all()


def test_what_is_transparent_shows_white_and_not_what_it_hides(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("tag", [3, 6])
def test_16_bits_are_turned_upright(tmp_path, tag):
    pixels = fine(3)
    picture_encoding.save(pixels, tmp_path / "plain.png", ".png", source())
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = tag
    content = (tmp_path / "plain.png").read_bytes()
    exif = tags.tobytes().removeprefix(b"Exif\0\0")
    turned = content[:33] + picture_encoding.chunk(b"eXIf", exif) + content[33:]
    (tmp_path / "a.png").write_bytes(turned)
    assert (read_rgb(tmp_path / "a.png") == np.rot90(pixels, {3: 2, 6: -1}[tag])).all()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.avif", quality=95)
    assert np.abs(read_rgb(tmp_path / "a.avif").astype(int) - PICTURE).mean() < 3


def test_a_plug_in_that_is_missing_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"what a phone took")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"a\.heic needs a plug-in of Pillow to be read: pip install pillow-heif"):
        read(tmp_path / "a.heic")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", [".exr", ".tif", ".avif", ".png"])
def test_damage_is_told_in_one_line(tmp_path, suffix):
    if suffix == ".avif":
        file = io.BytesIO()
        Image.fromarray(PICTURE).save(file, "AVIF")
        content = file.getvalue()
    else:
        picture_encoding.save(fine(3), tmp_path / "whole", suffix, source())
        content = (tmp_path / "whole").read_bytes()
    path = tmp_path / f"a{suffix}"
    for damaged in (b"", content[:30]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"^.* cannot be read as a picture, or it is damaged: .*$"):
            read_rgb(path)
    path.write_bytes(content[: len(content) // 2])
    with contextlib.suppress(InputError):  # some decoders are content with a half
        read_rgb(path)


DURATIONS = [40, 80, 200, 40, 40]


@pytest.fixture
def animation(tmp_path) -> Path:
    frames = [Image.fromarray(frame) for frame in videos.moving(5)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": DURATIONS, "lossless": True}
    frames[0].save(tmp_path / "a.webp", **options)
    return tmp_path / "a.webp"


def test_a_picture_that_moves_is_a_video(animation, tmp_path):
    opened, frames, _ = read(animation)
    assert opened.length == 5
    assert [frame.time * opened.time_base * 1000 for frame in frames] == [0, 40, 120, 320, 360]
    assert [frame.duration * opened.time_base * 1000 for frame in frames] == DURATIONS
    assert (np.stack([frame.pixels for frame in frames]) == videos.moving(5)).all()
    _, frames, _ = read(animation, Part(Fraction(1, 25), Fraction(8, 25)))
    assert [frame.time for frame in frames] == [0, 80]
    with pytest.raises(InputError, match="has no frame left by --start and --end"):
        read(animation, Part(Fraction(9)))
    matte_video(animation, tmp_path / "out.mp4", weights=MIRROR)
    assert [time * 1000 for time, _ in videos.timing(tmp_path / "out.mp4")] == [0, 40, 120, 320, 360]


def test_it_moves_behind_people_too(animation):
    with backgrounds.open_background(str(animation), 48, 64) as opened:
        assert opened.moving is not None
        shown = [opened.moving(Fraction(at, 1000)) for at in (0, 50, 390, 410)]
    assert (np.stack(shown) == videos.moving(5)[[0, 1, 4, 0]]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_tells_how_wide_its_pixels_are(tmp_path, dtype):
    picture_encoding.save(fine(3).astype(dtype), tmp_path / "a.png", ".png", source(Fraction(4, 3)))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        across, down = image.info["aspect"]
    assert Fraction(down, across) == Fraction(4, 3)  # pixels a unit: fewer where they are wide
    picture_encoding.save(fine(3).astype(dtype), tmp_path / "b.png", ".png", source())
    assert b"pHYs" not in (tmp_path / "b.png").read_bytes()


def test_backgrounds_keep_their_shape_where_pixels_are_not_square(tmp_path):
    """On pixels that are twice as wide as high, a circle and a square have half as many across."""
    y, x = np.mgrid[:96, :96] - 47.5
    disc = np.where(np.hypot(x, y) < 40, 255, 0).astype(np.uint8)
    Image.fromarray(disc).save(tmp_path / "disc.png")
    with backgrounds.open_background(str(tmp_path / "disc.png"), 48, 24, Fraction(2)) as opened:
        assert opened.still is not None
        inside = opened.still[0, :, :, 0] > 128
    assert (inside.any(1).sum(), inside.any(0).sum()) == (pytest.approx(40, abs=2), pytest.approx(20, abs=2))
    with backgrounds.open_background("checkered", 480, 240, Fraction(2)) as opened:
        assert opened.still is not None
        white = opened.still[0, :, :, 0] == 255
    assert (white[:, 0].argmin(), white[0].argmin()) == (10, 5)


def test_the_page_takes_what_moves_for_a_video(animation, tmp_path):
    """Its limit of seconds goes for it too."""
    Image.fromarray(PICTURE).save(tmp_path / "still.webp")
    assert not uploads.examine(animation, "a.webp", uploads.Limits()).picture
    assert uploads.examine(tmp_path / "still.webp", "still.webp", uploads.Limits()).picture


def test_floating_point_is_not_taken_for_black(tmp_path):
    Image.fromarray(np.full((4, 6), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a.tif has pixels of floating point"):
        read_rgb(tmp_path / "a.tif")
