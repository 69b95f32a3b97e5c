"""A clip from a hand, with its plate, and a small network that compares the two, trained while one waits."""

from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

from data_pipelines import synthetic
from rvm_jax.baselines import background_matting
from rvm_jax.baselines.background_matting import MattingBase
from rvm_jax.baselines.losses import matting_base_loss
from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.baselines.mobilenetv2 import MobileNetV2
from rvm_jax.model.variants import InvertedResidual

SMALL = MobileNetV2(
    tuple(InvertedResidual(3, 2 * width, width, False, "relu6", 2) for width in (16, 24, 32)), 0, (0, 1, 2, 3), stem=16
)
"""A backbone of four features, in the place of MobileNetV2's seventeen blocks."""


class HandHeld(NamedTuple):
    frames: np.ndarray
    """uint8 [T, H, W, 3]."""
    alpha: np.ndarray
    """uint8 [T, H, W, 1]."""
    background: np.ndarray
    """uint8 [T, H, W, 3], what is behind the person in each frame."""
    plate: np.ndarray
    """uint8 [H, W, 3], the same place from where the hand was before."""


def hand_held(index: int, count: int, height: int, width: int, shake: float = 0.04) -> HandHeld:
    """A person before a place, through a camera that moves, turns and zooms by about `shake` of the picture."""
    foreground, alpha = synthetic.person_clip(5, index, count, height, width)
    place = synthetic.background_clip(5, index, 1, height * 5 // 4, width * 5 // 4)[0]
    rng = np.random.default_rng(index)
    plate = _seen(place, height, width)
    background = np.stack([_seen(place, height, width, rng.uniform(-shake, shake, 6)) for _ in range(count)])
    share = alpha / np.float32(255)
    frames = foreground * share + background * (1 - share) + rng.normal(0, 2, foreground.shape)
    return HandHeld(np.rint(frames).clip(0, 255).astype(np.uint8), alpha, background, plate)


def _seen(place: np.ndarray, height: int, width: int, motion: np.ndarray | None = None) -> np.ndarray:
    """The middle of a place: moved, turned, zoomed and tilted."""
    x, y, turn, zoom, tilt_x, tilt_y = np.zeros(6) if motion is None else motion
    cosine, sine = (1 + zoom) * np.cos(turn), (1 + zoom) * np.sin(turn)
    moved = np.array([[cosine, -sine, x * width], [sine, cosine, y * width], [tilt_x / width, tilt_y / width, 1]])
    here, there = np.eye(3), np.eye(3)
    here[:2, 2] = -width / 2, -height / 2
    there[:2, 2] = place.shape[1] / 2, place.shape[0] / 2
    return cv2.warpPerspective(
        place, there @ moved @ here, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def small_network() -> BaselineMatte:
    """BackgroundMattingV2's coarse network with a small backbone and random weights."""
    background_matting.BACKBONES["small"] = SMALL
    network = MattingBase("small", dropout=0.0)
    images = jnp.zeros((1, 32, 32, 3), jnp.float32)
    return BaselineMatte(network, jax.jit(network.init)(jax.random.key(0), images, images))


def trained(steps: int, side: int = 48, batch: int = 4) -> BaselineMatte:
    """The same, trained on synthetic people."""
    matte = small_network()
    network, variables = matte.network, dict(matte.variables)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def step(variables: Any, state: Any, plates: jax.Array, foreground: jax.Array, alpha: jax.Array) -> Any:
        source = foreground * alpha + plates * (1 - alpha)

        def loss(params: Any) -> Any:
            changing = {**variables, "params": params}
            output, changed = network.apply(changing, source, plates, train=True, mutable=["batch_stats"])
            return matting_base_loss(output, foreground, alpha)["total"], changed

        gradient, changed = jax.grad(loss, has_aux=True)(variables["params"])
        with jax.numpy_dtype_promotion("standard"):  # as Optax wants it
            updates, state = optimizer.update(gradient, state)
        return {"params": optax.apply_updates(variables["params"], updates), **changed}, state

    people, alphas, places = _samples(48, side)
    state = optimizer.init(variables["params"])
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen, behind = (rng.permutation(len(people))[:batch] for _ in range(2))
        variables, state = step(variables, state, places[behind], people[chosen], alphas[chosen])
    return BaselineMatte(network, variables)


def _samples(count: int, side: int) -> list[np.ndarray]:
    """Foregrounds, alphas and places without people, float32 [count, side, side, C] in 0..1."""
    samples = [
        (*synthetic.person_clip(7, index, 1, side, side), synthetic.background_clip(7, index, 1, side, side))
        for index in range(count)
    ]
    return [np.concatenate(column) / np.float32(255) for column in zip(*samples, strict=True)]
