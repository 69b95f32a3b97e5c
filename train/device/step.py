"""One pass on one device: compose, forward, backward, a step of each group that the pass trains.

Pure functions of arrays. With `axis_name` they run inside `jax.pmap` (or `shard_map`) and average over the devices.

What is another for every network is a generic function of it: `init`, `layers` and `forward` here, and `predict` of
`evaluation`. RVM's are beside them; `train.baselines.steps` registers others.
"""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rvm_jax.model.network import MattingNetwork
from train.device import losses, optimizer
from train.device.joined import as_before, join, split

DeviceBatch = Mapping[str, jax.Array]
Metrics = Mapping[str, jax.Array]

MATTING = {"foreground": 3, "alpha": 1, "background": 3}
SEGMENTATION = {"image": 3, "mask": 1}
"""What a batch holds, and how many channels each has."""


class TrainState(NamedTuple):
    """All that training changes: nothing else is carried from step to step.

    The `average` of weights is there if the recipe asks for it.
    """

    params: optimizer.Params
    batch_stats: Mapping[str, Any]
    moments: optimizer.Moments
    average: optimizer.Average | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """Those of the network that is validated and kept: the average, if there is one."""
        found = self.average or self
        return {"params": found.params, "batch_stats": found.batch_stats}


@singledispatch
def init(network: nn.Module, key: jax.Array) -> TrainState:
    """Random weights, and the optimizer's state before its first step."""
    raise _unknown(network)


@init.register
def _(network: MattingNetwork, key: jax.Array) -> TrainState:
    """Alpha begins at a half: where it is clipped there is no gradient, and most pixels would pull it to 0 for good
    before the network has learned to tell people from what is behind them.
    """
    variables = jax.jit(network.init)(key, jnp.zeros((1, 1, 64, 64, 3)))
    head = variables["params"]["project_mat"]
    head = {**head, "bias": head["bias"].at[3].set(0.5)}
    return from_variables({**variables, "params": {**variables["params"], "project_mat": head}})


def from_variables(variables: Mapping[str, Any]) -> TrainState:
    """The state in which training with these weights begins."""
    params = variables["params"]
    return TrainState(params, variables["batch_stats"], optimizer.init(params))


def with_average(state: TrainState, how: optimizer.Update) -> TrainState:
    """The state with the average of weights in which training begins, if there is to be one."""
    return state if how.ema is None else state._replace(average=optimizer.begin_average(*state[:2]))


def joined(state: TrainState) -> TrainState:
    """The state as the devices hold it: the parameters of a group in one vector, likewise moments and statistics.

    `split` undoes it.
    """

    def of_groups(groups: Mapping[str, Any]) -> dict[str, Any]:
        return {group: join(tree) for group, tree in groups.items()}

    moments = {group: one._replace(mu=join(one.mu), nu=join(one.nu)) for group, one in state.moments.items()}
    average = state.average and optimizer.Average(state.average.steps, *map(of_groups, state.average[1:]))
    return TrainState(of_groups(state.params), of_groups(state.batch_stats), moments, average)


def groups(segmentation: bool, downsample_ratio: float) -> tuple[str, ...]:
    """The groups that a pass of RVM's network uses."""
    head = ("project_seg",) if segmentation else ("project_mat",)
    return ("encoder", "aspp", "decoder", *head, *(("refiner",) if downsample_ratio != 1 else ()))


@singledispatch
def layers(network: nn.Module, segmentation: bool) -> Mapping[str, int]:
    """What a batch of a pass holds, and how many channels each has."""
    raise _unknown(network)


@layers.register
def _(network: MattingNetwork, segmentation: bool) -> Mapping[str, int]:
    return SEGMENTATION if segmentation else MATTING


def train_pass(
    network: Any,
    state: TrainState,
    batch: DeviceBatch,
    learning_rates: Mapping[str, jax.typing.ArrayLike],
    downsample_ratio: float = 1.0,
    parts: int = 1,
    how: optimizer.Update = optimizer.ADAM,
) -> tuple[TrainState, Metrics]:
    """An optimizer step on a batch of matting or of segmentation.

    Returns the next state, and the terms of the loss with the norm of each group's gradient, and of all together if
    that is clipped; both before that. A group without a learning rate is frozen: it is not differentiated. The batch
    may be computed in equal `parts`, one after the other, for want of memory; then each part is normalised by its own
    statistics.
    """
    possible = groups("mask" in batch, downsample_ratio) if isinstance(network, MattingNetwork) else learning_rates
    used = [group for group in possible if group in learning_rates and group in state.params]
    terms, batch_stats, gradients = accumulate(network, state, batch, used, downsample_ratio, parts)
    if network.axis_name is not None:  # the statistics are those of all devices already
        terms, gradients = jax.lax.pmean((terms, gradients), network.axis_name)
    norms = {f"gradient_norm/{group}": optax.tree.norm(tree) for group, tree in gradients.items()}
    if how.clip_norm is not None:
        gradients, norms["gradient_norm/all"] = optimizer.clip(gradients, how.clip_norm)
    params, moments = optimizer.update(state.params, state.moments, gradients, learning_rates, how)
    average = state.average
    if how.ema is not None and average is not None:
        average = optimizer.update_average(average, params, batch_stats, how.ema)
    return TrainState(params, batch_stats, moments, average), {**terms, **norms}


def accumulate(
    network: Any, state: TrainState, batch: DeviceBatch, used: list[str], downsample_ratio: float, parts: int
) -> tuple[Metrics, Mapping[str, Any], optimizer.Params]:
    """As `differentiate`, part by part: the mean of terms and gradients, and the statistics that the last one left."""
    if parts == 1:
        return differentiate(network, state, batch, used, downsample_ratio)
    divided = {name: x.reshape(parts, -1, *x.shape[1:]) for name, x in batch.items()}

    def one(carried: Any, part: DeviceBatch) -> tuple[Any, Metrics]:
        batch_stats, total = carried
        terms, batch_stats, gradients = differentiate(
            network, state._replace(batch_stats=batch_stats), part, used, downsample_ratio
        )
        return (batch_stats, jax.tree.map(jnp.add, total, gradients)), terms

    nothing = jax.tree.map(jnp.zeros_like, {group: state.params[group] for group in used})
    (batch_stats, total), terms = jax.lax.scan(one, (state.batch_stats, nothing), divided)
    return jax.tree.map(lambda x: x.mean(0), terms), batch_stats, jax.tree.map(lambda x: x / parts, total)


def differentiate(
    network: Any, state: TrainState, batch: DeviceBatch, used: list[str], downsample_ratio: float
) -> tuple[Metrics, Mapping[str, Any], optimizer.Params]:
    """The terms of the loss, the new running statistics, and the gradients of the groups `used`."""
    trained = {group: state.params[group] for group in used}
    frozen = {group: tree for group, tree in state.params.items() if group not in trained}

    def loss(trained: optimizer.Params) -> tuple[jax.Array, tuple[Metrics, Mapping[str, Any]]]:
        variables = {"params": {**frozen, **trained}, "batch_stats": state.batch_stats}
        terms, updated = forward(network, split(variables), batch, downsample_ratio)
        return terms["total"], (terms, as_before(updated["batch_stats"], state.batch_stats))

    gradients, (terms, batch_stats) = jax.grad(loss, has_aux=True)(trained)
    return terms, batch_stats, gradients


@singledispatch
def forward(
    network: nn.Module, variables: Mapping[str, Any], batch: DeviceBatch, downsample_ratio: float
) -> tuple[Metrics, Mapping[str, Any]]:
    """The terms of the loss on a batch, and the updated running statistics."""
    raise _unknown(network)


@forward.register
def _(
    network: MattingNetwork, variables: Mapping[str, Any], batch: DeviceBatch, downsample_ratio: float
) -> tuple[Metrics, Mapping[str, Any]]:
    if "mask" in batch:
        result, updated = network.apply(
            variables, scaled(batch["image"]), train=True, segmentation=True, mutable=["batch_stats"]
        )
        return losses.segmentation_loss(result.logits, batch["mask"]), updated
    source, foreground, alpha = composite(batch)
    result, updated = network.apply(
        variables, source, downsample_ratio=downsample_ratio, train=True, mutable=["batch_stats"]
    )
    return losses.matting_loss(result.foreground, result.alpha, foreground, alpha), updated


def composite(batch: DeviceBatch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the network sees, and the true foreground and alpha, in 0..1: of uint8, or of what is in 0..1 already."""
    foreground, alpha, background = (scaled(batch[name]) for name in ("foreground", "alpha", "background"))
    return foreground * alpha + background * (1 - alpha), foreground, alpha


def scaled(pictures: jax.Array) -> jax.Array:
    """uint8 as float32 in 0..1; floating point stays as it is."""
    return pictures.astype(jnp.float32) / 255 if pictures.dtype == jnp.uint8 else pictures


def _unknown(network: nn.Module) -> TypeError:
    return TypeError(f"nothing says how a {type(network).__name__} is trained: see `train.baselines.steps`")
