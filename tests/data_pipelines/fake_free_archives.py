"""Miniature archives of the free datasets, in the layouts of their owners: people of the synthetic dataset in them."""

import functools
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines import synthetic

HEIGHT, WIDTH = 32, 48


@functools.cache
def person(number: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A composite uint8 [H, W, 3], its alpha [H, W], and the foreground [H, W, 3] that is in it."""
    foreground, alpha = (clip[0] for clip in synthetic.person_clip(5, number, 1, height, width))
    background = synthetic.background_clip(6, number, 1, height, width)[0]
    share = alpha.astype(np.float32) / 255
    composite = np.round(share * foreground + (1 - share) * background).astype(np.uint8)
    return composite, alpha[..., 0], foreground


def color_error(given: np.ndarray, number: int) -> float:
    """How far colours are from the foreground of a person, where it is seen through: mean of what alpha shows of it."""
    _, alpha, foreground = person(number)
    weights = np.where(alpha < 255, alpha, 0)[..., None] / 255
    return float((weights * np.abs(given.astype(float) - foreground)).sum() / weights.sum())


def encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    # At this size, chroma of every other pixel would be colours of another thing.
    Image.fromarray(pixels).save(file, form, **({"quality": 95, "subsampling": "4:4:4"} if form == "JPEG" else {}))
    return file.getvalue()


def photo(number: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """A background as JPEG."""
    return encoded(synthetic.background_clip(7, number, 1, height, width)[0], "JPEG")


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def synthhuman(manual: Path, part: int, people: int, *, without: str = "") -> Path:
    """A part of so many people; each has a picture, an alpha, and what else comes with it, but for one file."""
    path = manual / "synthhuman" / f"SynthHuman_{part:04d}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5000 * part, 5000 * part + people):
            composite, alpha, _ = person(number)
            files = {
                f"rgb_{number:07d}.png": encoded(composite, "PNG"),
                f"alpha_{number:07d}.png": encoded(alpha, "PNG"),
                f"depth_{number:07d}.exr": b"no picture",
                f"cam_{number:07d}.txt": b"1 0 0\n0 1 0\n0 0 1\n",
            }
            for name, content in files.items():
                if name != without:
                    archive.writestr(name, content)
    return path


def pass_tar(manual: Path, part: int, pictures: int) -> Path:
    """A part of so many pictures."""
    path = manual / "pass" / f"PASS.{part}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in range(pictures):
            content = photo(100 * part + number)
            entry = tarfile.TarInfo(f"PASS_dataset/{part}/{part}{number:04x}.jpg")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def p3m(manual: Path, *, train: int = 3, tests: int = 2) -> Path:
    """Portraits for training and of both sets for tests."""
    folder = manual / "P3M-10k"
    parts = (
        ("train", "blurred_image", train),
        ("validation/P3M-500-P", "blurred_image", tests),
        ("validation/P3M-500-NP", "original_image", tests),
    )
    for first, (part, pictures, count) in enumerate(parts):
        for number in range(100 * first, 100 * first + count):
            composite, alpha, _ = person(number)
            write(folder / part / pictures / f"p_{number:04x}.jpg", encoded(composite, "JPEG"))
            write(folder / part / "mask" / f"p_{number:04x}.png", encoded(alpha, "PNG"))
    return folder


def bg_20k(manual: Path, *, train: int = 3, test: int = 2) -> Path:
    folder = manual / "BG-20k"
    for name, count in (("train", train), ("testval", test)):
        for number in range(count):
            write(folder / name / f"h_{number:04x}.jpg", photo(200 + number + 100 * (name == "train")))
    return folder


def crgnn(manual: Path, *, clips: int = 1, frames: int = 12) -> Path:
    """Clips whose first frame and every tenth after it have an alpha."""
    folder = manual / "crgnn"
    for clip in range(clips):
        for frame in range(1, frames + 1):
            composite, alpha, _ = person(10 * clip + frame % 3)
            name = f"production ID_{clip}/frame{frame:05d}.png"
            write(folder / "image_allframe" / name, encoded(composite, "PNG"))
            if frame % 10 == 1:
                write(folder / "alpha" / name, encoded(alpha, "PNG"))
    return folder


def youtubematte(manual: Path, *, clips: int = 1, frames: int = 2) -> Path:
    """Clips of the small size on both kinds of backgrounds."""
    folder = manual / "YouTubeMatte" / "youtubematte_512x288"
    for kind in ("youtubematte_motion", "youtubematte_static"):
        for clip in range(clips):
            for frame in range(frames):
                composite, alpha, _ = person(10 * clip + frame)
                write(folder / kind / f"{clip:04d}" / "har" / f"{frame:04d}.png", encoded(composite, "PNG"))
                write(folder / kind / f"{clip:04d}" / "pha" / f"{frame:04d}.png", encoded(alpha, "PNG"))
    return folder
