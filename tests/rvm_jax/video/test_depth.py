"""More than 8 bits: a ramp goes through all of matting, and comes back as fine as it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.matte import Matte
from rvm_jax.model.network import MattingNetwork, MattingOutput
from rvm_jax.video import sink
from rvm_jax.video.frames import Part, Size, at_depth, resized
from rvm_jax.video.matting import matte_video
from rvm_jax.video.writing import picture_encoding
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_source import read

WIDTH = 1024


@dataclass(frozen=True)
class Mirror:
    """A network that gives back what it sees, and its red as alpha."""

    folded: bool = True

    def initial_state(self, *arguments: Any) -> Any:
        return MattingNetwork("tiny").initial_state(*arguments)

    def apply(self, variables: Any, frames: Any, state: Any, ratio: float) -> MattingOutput:
        return MattingOutput(frames, frames[..., :1], state)


MIRROR = Matte(Mirror(), {"params": {"none": jnp.zeros(1, jnp.float32)}})  # type: ignore[arg-type]


def ramp(bits: int) -> np.ndarray:
    """uint16 [32, WIDTH, 3] whose red grows and whose blue falls, in steps of that depth."""
    codes = np.linspace(0, 2**bits - 1, WIDTH).round()
    levels = (codes * 65535 / (2**bits - 1)).round().astype(np.uint16)
    return np.stack([levels, levels[::-1] // 2 + 10000, levels[::-1]], -1)[None].repeat(32, 0)


def ffv1(path: Path, picture: np.ndarray, pixels: str) -> Path:
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pixels
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(picture, "rgb48le").reformat(format=pixels)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def decoded(path: Path, pixels: str) -> np.ndarray:
    """The first frame of a file, or of a folder of pictures, as FFmpeg has it."""
    path = path if path.is_file() else next(path.iterdir())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name.startswith(pixels), frame.format.name
        return frame.to_ndarray(format="rgba64le").astype(int)


@pytest.mark.parametrize(
    ("pixels", "bits", "name", "stored", "most"),
    [
        ("gbrp10le", 10, "out", "rgba64", 0),
        ("gbrp16le", 16, "out", "rgba64", 0),
        ("gbrp12le", 12, "out.mov", "yuva444p", 80),
        ("gbrp10le", 10, "out.mkv", "gbrap10", 65),
    ],
)
def test_a_ramp_comes_back_as_fine_as_it_was(tmp_path, pixels, bits, name, stored, most):
    expected = ramp(bits)
    path = ffv1(tmp_path / "a.mkv", expected, pixels)
    opened, frames, _ = read(path)
    assert opened.deep
    given = frames[0].pixels.astype(int)
    assert np.abs(given - expected).max() <= (0 if bits == 16 else 64)
    matte_video(path, tmp_path / name, weights=MIRROR)
    written = decoded(tmp_path / name, stored)
    seen = written[..., 3] > 0
    assert np.abs(written[..., 3] - given[..., 0]).max() <= most
    assert np.abs(written[..., :3] - given)[seen].max() <= 6 * most
    for channel in (0, 2, 3):
        assert len(np.unique(written[0, :, channel])) > 700


@pytest.mark.parametrize("pixels", ["yuv444p10le", "yuv420p10le", "yuv444p12le"])
def test_codes_of_yuv_keep_their_places(tmp_path, pixels):
    """White is 65535, where FFmpeg's scaler would have 65280; and back it is the code that it was."""
    bits = int(pixels[-4:-2])
    frame = av.VideoFrame(880, 32, pixels)
    codes = np.clip(np.arange(64, 944), 64, 940).astype(np.uint16) << (bits - 10)
    for plane, values in zip(frame.planes, (codes, *[np.full(880, 1 << (bits - 1), np.uint16)] * 2), strict=True):
        lines = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        lines[:, : plane.width] = values[: plane.width]
        plane.update(lines.tobytes())
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 880, 32, pixels
        stream.codec_context.color_range = 1
        frame.pts = 0
        output.mux([*stream.encode(frame), *stream.encode(None)])
    opened, (read_back,), _ = read(tmp_path / "a.mkv")
    exact = (codes.astype(float) - (64 << (bits - 10))) / (876 << (bits - 10)) * 65535
    assert np.abs(read_back.pixels[8] - exact[:, None]).max() < 8
    path = tmp_path / "b.mov"
    with sink.open_sink(path, ".mov", opened, 3) as put:
        put(read_back)
    with av.open(str(path)) as container:
        luma = next(container.decode(video=0)).planes[0]
        written = np.frombuffer(bytes(luma), np.uint16).reshape(32, -1)[8, :880] / 4  # ProRes is decoded to 12 bits
    assert np.abs(written - (codes >> (bits - 10))).max() <= 1


def test_a_ramp_is_written_to_what_has_8_bits(tmp_path):
    path = ffv1(tmp_path / "a.mkv", ramp(10), "gbrp10le")
    matte_video(path, tmp_path / "out.mp4", weights=MIRROR, alpha=tmp_path / "alpha.gif", background="black")
    opened, _, _ = read(tmp_path / "out.mp4")
    assert not opened.deep
    alpha = read(tmp_path / "alpha.gif")[1][0].pixels[..., 0].astype(int)
    assert np.abs(alpha - ramp(10)[..., 0] / 257).mean() < 2


def test_8_bits_stay_8_bits(tmp_path):
    path = videos.write(tmp_path / "a.mkv", videos.moving(2), codec="ffv1", pixels="bgr0")
    matte_video(path, tmp_path / "out", weights=MIRROR)
    with av.open(str(tmp_path / "out" / "0000.png")) as container:
        assert next(container.decode(video=0)).format.name == "rgba"


def test_sizes_and_depths_are_changed_alike():
    fine = ramp(16)
    assert (at_depth(at_depth(fine, np.uint8), np.uint16) == (fine / 257).round() * 257).all()
    small = resized(fine, (16, 300)).astype(int)
    assert np.abs(small - resized(at_depth(fine, np.uint8), (16, 300)) * 257.0).max() <= 257


def test_a_folder_has_one_depth(tmp_path):
    fine = ramp(16)
    for name, pixels in (("0.png", fine), ("1.png", at_depth(fine, np.uint8))):
        (tmp_path / name).write_bytes(picture_encoding.encoded(pixels, ".png"))
    opened, (first, second), _ = read(tmp_path)
    assert opened.deep
    assert (first.pixels == fine).all()
    assert (second.pixels == at_depth(fine, np.uint8).astype(int) * 257).all()


def test_frames_are_brought_to_a_size(tmp_path):
    _, frames, _ = read(ffv1(tmp_path / "a.mkv", ramp(12), "gbrp12le"), Part(size=Size(256)))
    assert frames[0].pixels.shape == (8, 256, 3)
    assert len(np.unique(frames[0].pixels[4, :, 0])) == 256
