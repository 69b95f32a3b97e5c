"""Does an exported network give what the network gives in JAX? Measured on a clip, frame by frame, states carried on.

Arrays are channels first here, `[1, C, H, W]`, as in all runtimes but JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rvm_jax.decoder import State
from rvm_jax.matte import Matte

MEASURES = ("greatest", "root_mean_square", "mean")
OUTPUTS = ("fgr", "pha", "r1", "r2", "r3", "r4")

# A frame `[1, 3, H, W]` in 0..1, the state r1 .. r4 that the frame before gave (or None), and `downsample_ratio`
# → the six outputs.
Run = Callable[[np.ndarray, list[np.ndarray] | None, float], list[np.ndarray]]


@dataclass
class Difference:
    """How far two arrays are apart, over all that were added; infinitely if their shapes differ."""

    greatest: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        if one.shape != other.shape:
            self.greatest = self.squares = self.total = np.inf
            self.count = max(self.count, 1)
            return
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
        # Not the built-in `max`, which may drop a NaN.
        self.greatest = float(np.maximum(self.greatest, apart.max()))
        self.total += float(apart.sum())
        self.squares += float(np.square(apart).sum())
        self.count += apart.size

    def summary(self) -> dict[str, float]:
        """The `MEASURES`."""
        measures = (self.greatest, float(np.sqrt(self.squares / self.count)), self.total / self.count)
        return dict(zip(MEASURES, measures, strict=True))


def jax_run(matte: Matte) -> Run:
    """The network in JAX, without the rounded products that GPUs and TPUs use by default."""

    def run(src: np.ndarray, state: list[np.ndarray] | None, ratio: float) -> list[np.ndarray]:
        frame = src.transpose(0, 2, 3, 1)  # [1, H, W, 3]
        given = None if state is None else State(*(jnp.asarray(r.transpose(0, 2, 3, 1)) for r in state))
        with jax.default_matmul_precision("highest"):
            foreground, alpha, state_after = matte(frame, given, ratio)
        return [np.asarray(x).transpose(0, 3, 1, 2) for x in (foreground, alpha, *state_after)]

    return run


def compare(run: Run, reference: Run, clip: np.ndarray, ratio: float) -> dict[str, dict[str, float]]:
    """Both over a clip, uint8 `[T, H, W, 3]`, each with its own state. Returns each output's differences."""
    differences = {name: Difference() for name in OUTPUTS}
    given = expected = None
    for frame in clip:
        src = frame.transpose(2, 0, 1)[None].astype(np.float32) / 255  # [1, 3, H, W]
        outputs, references = run(src, given, ratio), reference(src, expected, ratio)
        for name, one, other in zip(OUTPUTS, outputs, references, strict=True):
            differences[name].add(one, other)
        given, expected = outputs[2:], references[2:]
    return {name: difference.summary() for name, difference in differences.items()}
