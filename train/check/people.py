"""People in pictures, as a network sees them: its segmentation, or its matte where it was released without that."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvm_jax.weights.files import Weights

SIZE = 288, 384
"""Height and width at which pictures are looked at."""
AT_ONCE = 8
SMALLEST_SHARE = 0.01
"""Of a picture: less may be anything."""


def seen(weights: Weights, pictures: np.ndarray) -> np.ndarray:
    """The share of each picture that shows people, float [N]; pictures are uint8 [N, height, width, 3]."""
    network = weights.network()
    variables = jax.device_put(weights.variables)

    @jax.jit
    def share(variables: Any, batch: jax.Array) -> jax.Array:
        frames = batch.astype(jnp.float32)[:, None] / 255
        result: Any = network.apply(variables, frames, segmentation=not weights.for_matting_alone)
        people = result.alpha > 0.5 if weights.for_matting_alone else result.logits > 0
        return jnp.mean(people.astype(jnp.float32), (1, 2, 3, 4))

    filled = np.pad(pictures, ((0, -len(pictures) % AT_ONCE), (0, 0), (0, 0), (0, 0)))
    found = [np.asarray(share(variables, batch)) for batch in np.split(filled, len(filled) // AT_ONCE)]
    return np.concatenate(found)[: len(pictures)]
