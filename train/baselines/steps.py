"""How MODNet, BackgroundMattingV2 and U²-Net are begun, trained and validated: methods for `train.device`.

A batch has clips of one frame in training, and of several in validation; to these networks all are pictures.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from rvm_jax.baselines import losses
from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.images import u2net_normalised
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.u2net import U2Net
from train.device import evaluation, step
from train.device.evaluation import Prediction
from train.device.step import DeviceBatch, Metrics, TrainState

Variables = Mapping[str, Any]
Passed = tuple[Metrics, Variables]

TRIMAP = {**step.MATTING, "trimap": 1}
PLATE = {"source": 3, "foreground": 3, "alpha": 1, "plate": 3}
SMALLEST = 64
"""The side of the picture by which variables are made."""


@step.init.register
def _(network: MODNet | U2Net, key: Array) -> TrainState:
    """Random weights, those of the heads that training alone looks at among them."""
    return step.from_variables(jax.jit(network.init)(key, jnp.zeros((1, SMALLEST, SMALLEST, 3))))


# MODNet


@step.layers.register
def _(network: MODNet, segmentation: bool) -> Mapping[str, int]:
    return TRIMAP


@step.forward.register
def _(network: MODNet, variables: Variables, batch: DeviceBatch, downsample_ratio: float) -> Passed:
    source, _, alpha = map(_pictures, step.composite(batch))
    trimap = _pictures(batch["trimap"])
    known = jnp.where((trimap > 0) & (trimap < 255), 0.5, trimap.astype(source.dtype) / 255)
    images = 2 * source - 1
    output, updated = network.apply(variables, images, train=True, side_outputs=True, mutable=["batch_stats"])
    return losses.modnet_loss(output, images, alpha, known), updated


@evaluation.predict.register
def _(network: MODNet, variables: Variables, batch: DeviceBatch, downsample_ratio: float) -> Prediction:
    source, foreground, alpha = step.composite(batch)
    output: Any = network.apply(variables, 2 * _pictures(source) - 1)
    return Prediction(source, foreground, alpha, source, output.alpha.reshape(alpha.shape))


# BackgroundMattingV2


@step.init.register
def _(network: MattingRefine, key: Array) -> TrainState:
    """The refiner too, whether the first stage trains it or not."""
    pictures = jnp.zeros((1, SMALLEST, SMALLEST, 3))
    return step.from_variables(jax.jit(network.init)(key, pictures, pictures))


@step.layers.register
def _(network: MattingRefine, segmentation: bool) -> Mapping[str, int]:
    return PLATE


@step.forward.register
def _(network: MattingRefine, variables: Variables, batch: DeviceBatch, downsample_ratio: float) -> Passed:
    """The coarse network alone if the ratio is 1.

    What dropout leaves out follows from the pixels of the batch, so there is no key to be kept.
    """
    source, plate, foreground, alpha = (
        _pictures(step.scaled(batch[name])) for name in ("source", "plate", "foreground", "alpha")
    )
    rngs = {"dropout": _key(source, network.axis_name)}
    output, updated = _network(network, downsample_ratio).apply(
        variables, source, plate, train=True, mutable=["batch_stats"], rngs=rngs
    )
    loss: Any = losses.matting_base_loss if downsample_ratio == 1 else losses.matting_refine_loss
    return loss(output, foreground, alpha), updated


@evaluation.predict.register
def _(network: MattingRefine, variables: Variables, batch: DeviceBatch, downsample_ratio: float) -> Prediction:
    """With the true background as its plate."""
    source, foreground, alpha = step.composite(batch)
    plate = step.scaled(batch["background"])
    output: Any = _network(network, downsample_ratio).apply(variables, _pictures(source), _pictures(plate))
    return Prediction(
        source, foreground, alpha, output.foreground.reshape(source.shape), output.alpha.reshape(alpha.shape)
    )


def _network(network: MattingRefine, downsample_ratio: float) -> MattingBase | MattingRefine:
    if downsample_ratio != 1:
        return network.clone(scale=downsample_ratio)
    shared = {name: getattr(network, name) for name in ("backbone", "dropout", "dtype", "axis_name", "freeze_norms")}
    return MattingBase(**shared)


def _key(pictures: Array, axis_name: str | None) -> Array:
    """A random key that follows from the pixels of the batch, those of all devices."""
    total = jnp.round(255 * pictures).astype(jnp.uint32).sum(dtype=jnp.uint32)
    return jax.random.fold_in(jax.random.key(0), total if axis_name is None else lax.psum(total, axis_name))


# U²-Net


@step.layers.register
def _(network: U2Net, segmentation: bool) -> Mapping[str, int]:
    return step.SEGMENTATION


@step.forward.register
def _(network: U2Net, variables: Variables, batch: DeviceBatch, downsample_ratio: float) -> Passed:
    images = u2net_normalised(_pictures(step.scaled(batch["image"])))
    output, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return losses.u2net_loss(output, _pictures(batch["mask"]).astype(images.dtype)), updated


@evaluation.predict.register
def _(network: U2Net, variables: Variables, batch: DeviceBatch, downsample_ratio: float) -> Prediction:
    """On its own kind of data, whose masks are its truth."""
    source = step.scaled(batch["image"])
    alpha = batch["mask"].astype(source.dtype)
    output: Any = network.apply(variables, u2net_normalised(_pictures(source)))
    return Prediction(source, source, alpha, source, output.alpha.reshape(alpha.shape))


def _pictures(clips: Array) -> Array:
    """`[b, T, h, w, C]` → `[b·T, h, w, C]`."""
    return clips.reshape(-1, *clips.shape[2:])
