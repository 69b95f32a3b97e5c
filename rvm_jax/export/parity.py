"""Does an exported network give what the network gives in JAX? Measured on a clip, frame by frame, states carried on.

Arrays are channels first here, `[1, C, H, W]`, as in all runtimes but JAX.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rvm_jax.matte import Matte
from rvm_jax.model.decoder import State

MEASURES = ("greatest", "root_mean_square", "mean")
OUTPUTS = ("fgr", "pha", "r1", "r2", "r3", "r4")

# A frame `[1, 3, H, W]` in 0..1, the state r1 .. r4 that the frame before gave (or None), and `downsample_ratio`
# → the six outputs.
Runner = Callable[[np.ndarray, list[np.ndarray] | None, float], list[np.ndarray]]


def jax_run(matte: Matte) -> Runner:
    """The network in JAX, without rounded products wherever it runs."""

    def run(src: np.ndarray, state: list[np.ndarray] | None, ratio: float) -> list[np.ndarray]:
        frame = src[0].transpose(1, 2, 0)  # [H, W, 3]
        given = None if state is None else State(*(jnp.asarray(r.transpose(0, 2, 3, 1)) for r in state))
        with jax.default_matmul_precision("highest"):
            foreground, alpha, state_after = matte(frame, given, ratio)
        return [np.asarray(x).transpose(0, 3, 1, 2) for x in (foreground[None], alpha[None], *state_after)]

    return run


def compare(run: Runner, reference: Runner, clip: np.ndarray, ratio: float) -> dict[str, dict[str, float]]:
    """Both over a clip, uint8 `[T, H, W, 3]`, each with its own state. Returns the `MEASURES` of each output."""
    apart: dict[str, list[tuple[float, float, float]]] = {name: [] for name in OUTPUTS}
    given = expected = None
    for frame in clip:
        src = frame.transpose(2, 0, 1)[None].astype(np.float32) / 255  # [1, 3, H, W]
        outputs, references = run(src, given, ratio), reference(src, expected, ratio)
        for name, one, other in zip(OUTPUTS, outputs, references, strict=True):
            apart[name].append(difference(one, other))
        given, expected = outputs[2:], references[2:]
    return {name: summarized(frames) for name, frames in apart.items()}


def summarized(frames: list[tuple[float, float, float]]) -> dict[str, float]:
    """The `MEASURES` of the differences of several frames."""
    greatest, square, mean = np.array(frames).T  # each [T]
    numbers = (greatest.max(), np.sqrt(square.mean()), mean.mean())
    return dict(zip(MEASURES, map(float, numbers), strict=True))


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Greatest, mean square and mean; infinite if the shapes differ."""
    if one.shape != other.shape:
        return np.inf, np.inf, np.inf
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return apart.max(), np.square(apart).mean(), apart.mean()
