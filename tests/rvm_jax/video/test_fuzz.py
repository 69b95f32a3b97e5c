"""Damaged files of many kinds: each is matted as far as it goes, or told in a line; none ends in a traceback or a hang.

RVM_FUZZ is how many files there are; `make campaign` asks for many.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.video.writing import picture_encoding
from rvm_jax.weights.files import Weights, write_weights
from tests.compiling import QUICKLY
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import random_variables

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("RVM_FUZZ", "30"))
ROOT = Path(__file__).parents[3]
QUALITY = {"flags": "qscale", "global_quality": "236"}

VIDEOS = {
    "a.mp4": {"sound": "aac"},
    "a.mkv": {"sound": "aac"},
    "a.webm": {"codec": "libvpx", "options": {"crf": "10", "b": "1000000"}},
    "a.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "a.avi": {"codec": "mpeg4", "options": QUALITY},
    "a.mpg": {"codec": "mpeg2video", "options": QUALITY},
    "a.ts": {"sound": "aac"},
    "a.gif": {"codec": "gif", "pixels": "rgb8"},
    "av1.mp4": {"codec": "libsvtav1", "options": {"crf": "20", "preset": "12"}},
}
PICTURES = ("png", "jpg", "webp", "bmp", "tiff", "avif")
DEEP = (".png", ".tif", ".exr")


def write_healthy(folder: Path) -> list[Path]:
    frames = videos.moving(8)
    for name, options in VIDEOS.items():
        videos.write(folder / name, frames, **options)  # type: ignore[arg-type]
    for kind in PICTURES:
        Image.fromarray(frames[0]).save(folder / f"a.{kind}")
    fine = frames[0] * np.uint16(257)
    for suffix in DEEP:
        (folder / f"deep{suffix}").write_bytes(picture_encoding.encoded(fine, suffix))
    first, *others = map(Image.fromarray, frames)
    first.save(folder / "moves.webp", save_all=True, append_images=others)
    return sorted(path for path in folder.iterdir())


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """One of the ways in which files are damaged."""
    size = len(content)
    begin, end = sorted(int(place) for place in random.integers(0, size, 2))
    changed = bytearray(content)
    match random.integers(0, 5):
        case 0:
            for place in random.integers(0, size, random.integers(1, 20)):
                changed[place] = random.integers(0, 256)
        case 1:
            del changed[end:]
        case 2:
            changed[begin:end] = bytes(end - begin)
        case 3:
            del changed[begin : begin + 200]
        case 4:
            changed[begin:begin] = random.bytes(100)
    return bytes(changed)


def test_damaged_files_are_matted_or_told(tmp_path):
    (tmp_path / "healthy").mkdir()
    (tmp_path / "damaged").mkdir()
    paths = write_healthy(tmp_path / "healthy")
    random = np.random.default_rng(COUNT)
    for number in range(COUNT):
        path = paths[number % len(paths)]
        (tmp_path / "damaged" / f"{number:04d}{path.name}").write_bytes(mutate(path.read_bytes(), random))
    tiny = Weights(VARIANTS["tiny"], "deep_guided_filter", random_variables(MattingNetwork("tiny")))
    write_weights(tiny, tmp_path / "tiny")
    done = subprocess.run(
        [sys.executable, "-m", "tests.rvm_jax.video.fuzz_worker", str(tmp_path / "damaged"), str(tmp_path / "tiny")],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": QUICKLY},
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("\ndone\n"), (done.stdout.splitlines()[-1:], done.stderr[-3000:])
    assert done.stdout.count("\n") == COUNT + 1
