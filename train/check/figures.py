"""The first iterations, computed in float32 on a batch of formulas, compared with stored figures of the platform.

Weights, batches and rates are the same for everybody, so whoever gets other losses has a platform, a library or a
change that computes something else. No data is involved.
"""

import json
import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.platforms import tracing_for
from train.check.findings import Finding
from train.device import optimizer, step

_Stored = dict[str, dict[str, dict[str, list[float]]]]
STORED = Path(__file__).with_name("figures.json")
"""Losses by platform and variant."""
TOLERANCE = 1e-3
"""Of a loss. Steps of Adam turn rounding into whole steps where a gradient is nearly 0: seen were 4e-5, on a CPU with
other optimisations of XLA."""
ITERATIONS = 3
RATE = 1e-4
CLIPS = 2


class _Pass(NamedTuple):
    frames: int
    height: int
    width: int
    segmentation: bool = False
    downsample_ratio: float = 1.0

    @property
    def pixels(self) -> int:
        return CLIPS * self.frames * self.height * self.width


PASSES = {
    "low": _Pass(3, 96, 128),
    "high": _Pass(2, 192, 256, downsample_ratio=0.5),
    "segmentation": _Pass(2, 96, 96, segmentation=True),
}


def check(variant: str, path: Path, *, store: bool) -> tuple[Finding, float]:
    """Compute the figures of this platform, and compare them with those of the file, or store them there.

    Also gives the seconds that a pixel of a low-resolution pass took.
    """
    stored = read(path) if path.exists() or not store else {}
    found, seconds = compute(variant)
    return _compare_or_store(variant, path, stored, found, store=store), seconds


def _compare_or_store(
    variant: str, path: Path, stored: _Stored, found: Mapping[str, list[float]], *, store: bool
) -> Finding:
    platform = jax.devices()[0].platform
    wanted = stored.get(platform, {}).get(variant)
    if store:
        own = {**stored.get(platform, {}), variant: found}
        with replacing(path, overwrite=True) as partial_file:
            partial_file.write_text(json.dumps({**stored, platform: own}, indent=1) + "\n")
        return Finding("note", f"the first iterations of {variant} on this {platform} are in {path} from now on")
    if wanted is None:
        return Finding("note", f"no figures yet of first iterations of {variant} on a {platform}: --store keeps these")
    return compare(found, wanted, f"{variant} on a {platform}")


def compare(found: Mapping[str, list[float]], wanted: Mapping[str, list[float]], what: str) -> Finding:
    """The largest difference of a loss from the stored one, of that."""
    away, name, iteration = max(
        (abs(ours / theirs - 1) if math.isfinite(ours) else math.inf, name, iteration)
        for name, losses in wanted.items()
        for iteration, (ours, theirs) in enumerate(zip(found[name], losses, strict=True), 1)
    )
    if away > TOLERANCE:
        return Finding(
            "fault",
            f"first iterations of {what}: loss {name} of iteration {iteration} is {found[name][iteration - 1]:.6g}, "
            f"and {wanted[name][iteration - 1]:.6g} is stored: something is computed otherwise here",
        )
    return Finding("fine", f"first iterations of {what} are those that are stored, within {away:.0e}")


def compute(variant: str) -> tuple[dict[str, list[float]], float]:
    """The loss of each pass in each iteration, on one device, and the seconds that a pixel of a low one takes."""
    network = MattingNetwork(variant)
    with jax.default_matmul_precision("highest"), tracing_for(jax.devices()[0].platform):
        run = jax.jit(partial(step.train_pass, network), static_argnames=("downsample_ratio",))
        state = step.init(network, jax.random.key(0))
        losses: dict[str, list[float]] = {name: [] for name in PASSES}
        seconds = math.inf
        for iteration in range(ITERATIONS):
            for name, one in PASSES.items():
                rates = dict.fromkeys(optimizer.GROUPS, np.float32(RATE))
                begin = time.perf_counter()
                state, metrics = run(state, batch(one, iteration), rates, downsample_ratio=one.downsample_ratio)
                losses[name].append(float(metrics["total"]))
                if name == "low":  # the first of them compiles
                    seconds = min(seconds, time.perf_counter() - begin)
    return losses, seconds / PASSES["low"].pixels


def batch(one: _Pass, number: int) -> dict[str, np.ndarray]:
    """Discs that move over slanted colours, of whole numbers alone, which every machine computes alike: uint8."""
    clip, time, y, x = np.ogrid[:CLIPS, : one.frames, : one.height, : one.width]
    middle_x = one.width // 3 + (5 * time + 9 * clip + 3 * number) * one.width // 64
    middle_y = one.height // 2 + 2 * time - 4 * clip
    radius = one.height // 3
    inside = radius**2 - (x - middle_x) ** 2 - (y - middle_y) ** 2
    alpha = np.clip(128 + 255 * inside // (8 * radius), 0, 255)[..., None]
    channel = np.arange(3)
    foreground = np.broadcast_to(_colors(x, y, clip, 2, 3, 50 * channel + 90), (*alpha.shape[:4], 3))
    background = np.broadcast_to(_colors(x, y, clip, 5, 2, 70 * channel + 20 * number), (*alpha.shape[:4], 3))
    pictures = {"foreground": foreground, "alpha": alpha, "background": background}
    if one.segmentation:
        pictures = {"image": np.where(alpha > 127, foreground, background), "mask": alpha > 127}
    return {name: picture.astype(np.uint8) for name, picture in pictures.items()}


def _colors(x: np.ndarray, y: np.ndarray, clip: np.ndarray, across: int, down: int, offset: np.ndarray) -> np.ndarray:
    """Waves of triangles [clips, 1, height, width, 3] in 0..255."""
    phase = (across * x + down * y + 30 * clip)[..., None] + offset
    return np.abs(phase % 510 - 255)


def read(path: Path) -> _Stored:
    """The stored figures, by platform, variant and pass."""
    try:
        found = json.loads(path.read_text())
        assert all(isinstance(variants, dict) for variants in found.values())
    except (OSError, ValueError, AttributeError, AssertionError) as error:
        raise InputError(f"--figures {path} is not a file that --store has written") from error
    return found
