"""HDR: the published curves, and pictures that stay what they were when it is kept."""

import struct
from pathlib import Path
from typing import Any

import av
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.video import hdr
from rvm_jax.video.frames import HDR
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_depth import MIRROR

CODES = jnp.linspace(0, 1, 257)


def test_curves_are_those_of_bt2100():
    """BT.2408 has these as levels of reference."""
    assert np.asarray(hdr.nits_to_pq(jnp.array([0.0, 100, 203, 1000, 10000]))) == pytest.approx(
        [0, 0.508, 0.581, 0.752, 1], abs=5e-4
    )
    grays = jnp.array([0.0, 203, 1000])[:, None].repeat(3, 1)
    assert np.asarray(hdr.nits_to_hlg(grays))[:, 1] == pytest.approx([0, 0.75, 1], abs=1e-3)
    assert np.asarray(hdr.scene_to_hlg(jnp.array([1 / 12, 1]))) == pytest.approx([0.5, 1], abs=1e-5)
    assert np.asarray(hdr.srgb_to_light(jnp.array([0.04045, 0.5, 1]))) == pytest.approx([0.00313, 0.21404, 1], abs=1e-5)


def test_curves_are_taken_back():
    assert jnp.allclose(hdr.nits_to_pq(hdr.pq_to_nits(CODES)), CODES, atol=2e-5)
    assert jnp.allclose(hdr.scene_to_hlg(hdr.hlg_to_scene(CODES)), CODES, atol=1e-5)
    assert jnp.allclose(hdr.light_to_srgb(hdr.srgb_to_light(CODES)), CODES, atol=1e-5)
    below = CODES[CODES < 0.75]  # 1000 nits
    assert jnp.allclose(hdr.from_seen(hdr.to_seen(below, hdr.PQ), hdr.PQ), below, atol=1e-4)
    assert hdr.to_seen(jnp.array(0.581), hdr.PQ) == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(("transfer", "white"), [(hdr.PQ, 0.581), (hdr.HLG, 0.75)])
def test_colours_of_srgb_come_into_it(transfer, white):
    white_gray_red = hdr.from_srgb(jnp.array([[1.0, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]]), transfer)
    assert np.asarray(white_gray_red[0]) == pytest.approx([white] * 3, abs=1e-3)
    assert np.ptp(white_gray_red[1]) < 1e-3
    assert 0.3 < white_gray_red[1, 0] < white
    red, green, blue = white_gray_red[2]
    assert red > green > blue > 0  # which in BT.2020 is no pure red


def recorded(path: Path, transfer: int) -> Path:
    """Two frames of slopes of all codes, as a phone has them."""
    slope = np.linspace(64, 940, 256).round().astype(np.uint16)
    options = {"crf": "1", "x265-params": "log-level=none:bframes=0"}
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1
        for number in range(2):
            frame = av.VideoFrame(256, 64, "yuv420p10le")
            for plane, values in zip(frame.planes, (slope, *[np.full(128, 512, np.uint16)] * 2), strict=True):
                lines = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                lines[:, : len(values)] = values
                plane.update(lines.tobytes())
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "transfer", "stored", "codec"),
    [(".mp4", 18, "yuv420p10le", "hevc"), (".mov", 16, "yuv444p12le", "prores"), (".mkv", 16, "gbrp10le", "ffv1")],
)
def test_it_is_kept(tmp_path, capsys, ending, transfer, stored, codec):
    """The network here says that what is dark is transparent; before green, it is green."""
    path, out = recorded(tmp_path / "a.mp4", transfer), tmp_path / f"out{ending}"
    alpha = tmp_path / "alpha.mp4"
    matte_video(path, out, weights=MIRROR, background="green", hdr="keep", alpha=alpha)
    assert capsys.readouterr().err == f"{path} is HDR ({HDR[transfer]}): it is kept\n"
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert (stream.codec_context.name, frame.format.name) == (codec, stored)
        assert (frame.color_primaries, frame.color_trc) == (9, transfer)
        assert frame.colorspace == (0 if ending == ".mkv" else 9)
        if ending == ".mp4":
            assert stream.codec_context.codec_tag == "hvc1"
        pixels = frame.reformat(format="rgb48le", src_colorspace=9, dst_color_range=2).to_ndarray()[32] / 65535
    codes = np.linspace(0, 1, 256)
    assert np.abs(pixels[-40:] - codes[-40:, None] ** 1).max() < 0.06  # hardly mixed
    green = np.asarray(hdr.from_srgb(jnp.array([120, 255, 155]) / 255, transfer))
    assert np.abs(pixels[2] - green).max() < 0.03
    with av.open(str(alpha)) as container:
        assert next(container.decode(video=0)).color_trc == 2


@pytest.mark.slow
def test_pictures_of_it_say_so(tmp_path):
    path = recorded(tmp_path / "a.mp4", 16)
    matte_video(path, tmp_path / "out", weights=MIRROR, hdr="keep")
    content = (tmp_path / "out" / "0000.png").read_bytes()
    place = content.index(b"cICP")
    assert struct.unpack(">I", content[place - 4 : place]) == (4,)
    assert content[place + 4 : place + 8] == bytes([9, 16, 0, 1])
    for target, options in (("b.webm", {}), ("b", {"pictures": "exr"})):
        with pytest.raises(InputError, match=r"cannot hold HDR: write .mp4, .mov, .mkv or a folder of .png"):
            matte_video(path, tmp_path / target, weights=MIRROR, hdr="keep", **options)


def test_where_there_is_none_to_keep_that_is_told(tmp_path, matte, capsys):
    path = videos.write(tmp_path / "a.mp4", videos.moving(2))
    matte_video(path, tmp_path / "out.mp4", weights=matte, hdr="keep")
    assert capsys.readouterr().err == f"{path} is not HDR: --hdr keep changes nothing of it\n"
