"""Small test sets, and what can be wrong with one."""

from pathlib import Path

import numpy as np
from PIL import Image

from rvm_jax.evaluation import evaluate, layout
from rvm_jax.evaluation.evaluate import Settings
from rvm_jax.evaluation.methods import Method
from tests.rvm_jax import videos

FRAMES = 11


def write_clip(folder: Path, seed: int, frames: int = FRAMES, height: int = 32, width: int = 48) -> None:
    rng = np.random.default_rng(seed)
    people = videos.moving(frames, height, width)
    alpha = ((people[..., :1] > 100) * rng.integers(100, 256, people[..., :1].shape)).astype(np.uint8)
    background = np.broadcast_to(rng.integers(0, 256, (1, height, width, 3), np.uint8), people.shape)
    share = alpha / 255
    layers = {
        "com": np.rint(people * share + background * (1 - share)).astype(np.uint8),
        "pha": alpha[..., 0],
        "fgr": people,
    }
    for kind, pictures in layers.items():
        (folder / kind).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / kind / f"{number:04d}.png")


def run(one: Method, testset: Path, out: Path, **settings) -> list[evaluate.Scored]:
    return list(evaluate.evaluate(layout.find(testset), one, out, Settings(**settings)))


def stack(folder: Path, channels: int) -> np.ndarray:
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return (np.stack(pictures).reshape(len(pictures), *pictures[0].shape[:2], channels) / 255).astype(np.float32)


def faulty(fault: str, testset: Path, predictions: Path) -> None:
    """Damage a test set, or predictions that are a copy of it."""
    clip, theirs = testset / "aim_static" / "0001", predictions / "aim_static" / "0001"
    match fault:
        case "truth is JPEG":
            Image.open(clip / "pha" / "0003.png").save(clip / "pha" / "0003.jpg")
            (clip / "pha" / "0003.png").unlink()
        case "truth is missing":
            (clip / "pha").rename(clip / "alpha")
        case "composite is missing":
            (clip / "com" / "0004.png").unlink()
        case "clip is missing":
            theirs.rename(theirs.with_name("0002"))
        case "folder is empty":
            for path in (theirs / "pha").iterdir():
                path.unlink()
        case "frames are missing":
            (theirs / "pha" / "0010.png").unlink()
        case "names differ":
            (theirs / "pha" / "0010.png").rename(theirs / "pha" / "0011.png")
        case "other size":
            for path in (theirs / "pha").iterdir():
                Image.open(path).resize((24, 16)).save(path)
        case "one of other size":
            Image.new("L", (40, 32)).save(theirs / "pha" / "0002.png")
        case "damaged":
            (theirs / "pha" / "0002.png").write_bytes(b"no picture")
