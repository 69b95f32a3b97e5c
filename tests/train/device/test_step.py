"""One pass: what it trains and what it leaves alone, on one device and on eight."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.model.network import MattingNetwork
from tests.train.runs import SMALL
from train.device import optimizer, parallel, step
from train.device.joined import split

RATES = dict.fromkeys(optimizer.GROUPS, 1e-3)
KINDS = {  # the batch, the ratio, and what the pass trains
    "matting": ((2, 2, 32, 48), 1.0, {"encoder", "aspp", "decoder", "project_mat"}),
    "through the refiner": ((1, 2, 96, 64), 0.5, {"encoder", "aspp", "decoder", "project_mat", "refiner"}),
    "segmentation": ((2, 2, 32, 48), 1.0, {"encoder", "aspp", "decoder", "project_seg"}),
}


def make_batch(kind, shape, seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    channels = {"image": 3, "mask": 1} if kind == "segmentation" else {"foreground": 3, "alpha": 1, "background": 3}
    pictures = {name: rng.integers(0, 256, (*shape, c)) for name, c in channels.items()}
    if "mask" in pictures:
        pictures["mask"] = pictures["mask"] >= 128
    if dtype == np.uint8:
        return {name: jnp.asarray(picture, np.uint8) for name, picture in pictures.items()}
    return {n: jnp.asarray(p / 255 if n != "mask" else p, dtype) for n, p in pictures.items()}


@pytest.fixture(scope="module")
def start():
    return step.init(MattingNetwork(SMALL), jax.random.key(0))


def in_float64(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "matting" else ()) for kind in KINDS]
)
def test_a_pass_steps_what_it_uses_and_touches_nothing_else(start, kind):
    shape, ratio, trained = KINDS[kind]
    run = jax.jit(partial(step.train_pass, MattingNetwork(SMALL), learning_rates=RATES, downsample_ratio=ratio))
    state, metrics = run(step.joined(start), make_batch(kind, shape))
    state = split(state)
    assert state.params.keys() == start.params.keys() == set(optimizer.GROUPS)
    for group in optimizer.GROUPS:
        moved = any(
            (old != new).any()
            for old, new in zip(*map(jax.tree.leaves, (start.params[group], state.params[group])), strict=True)
        )
        assert moved == (group in trained), group
        assert state.moments[group].count == (1 if group in trained else 0)
    assert {name for name in metrics if name.startswith("gradient_norm/")} == {f"gradient_norm/{g}" for g in trained}
    assert all(np.isfinite(value) for value in metrics.values())
    for group, statistics in start.batch_stats.items():
        pairs = zip(jax.tree.leaves(statistics), jax.tree.leaves(state.batch_stats[group]), strict=True)
        assert {bool((old != new).any()) for old, new in pairs} == {group in trained}, group


def test_a_group_without_a_learning_rate_is_frozen(start):
    rates = {group: rate for group, rate in RATES.items() if group != "encoder"}
    run = jax.jit(partial(step.train_pass, MattingNetwork(SMALL)))
    state, metrics = run(start, make_batch("matting", (1, 2, 32, 32)), rates)
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"], start.params["encoder"])
    assert state.moments["encoder"].count == 0
    assert "gradient_norm/encoder" not in metrics
    assert state.moments["decoder"].count == 1


@pytest.mark.slow
def test_a_batch_in_parts_is_the_mean_of_its_parts(start):
    """Two clips at once or one after the other: the same clip twice has the same statistics either way."""
    clip = make_batch("matting", (1, 2, 32, 32), dtype=np.float64)
    batch = {name: jnp.concatenate([x, x]) for name, x in clip.items()}
    run = jax.jit(partial(step.train_pass, MattingNetwork(SMALL), learning_rates=RATES), static_argnames="parts")
    state = in_float64(start)
    (once, metrics), (twice, measured) = (run(state, batch, parts=parts) for parts in (1, 2))
    for name, value in metrics.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-9, err_msg=name)
    for one, other in zip(jax.tree.leaves(once.moments), jax.tree.leaves(twice.moments), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_parts_are_of_different_clips(start):
    """The terms of a batch in parts are the means of those that each part has alone."""
    batch = make_batch("segmentation", (2, 2, 32, 32), dtype=np.float64)
    run = jax.jit(partial(step.train_pass, MattingNetwork(SMALL), learning_rates=RATES), static_argnames="parts")
    state = in_float64(start)
    _, together = run(state, batch, parts=2)
    alone = [run(state, {name: x[i : i + 1] for name, x in batch.items()}, parts=1)[1]["total"] for i in range(2)]
    assert abs(alone[0] - alone[1]) > 1e-4
    np.testing.assert_allclose(together["total"], np.mean(alone), rtol=1e-9)


def test_bytes_and_fractions_are_the_same_batch():
    of_bytes, of_fractions = (make_batch("matting", (1, 2, 8, 8), dtype=dtype) for dtype in (np.uint8, np.float32))
    for one, other in zip(step.composite(of_bytes), step.composite(of_fractions), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-7)  # rounding of float32 in 0..1


def test_the_network_sees_the_composite():
    foreground, alpha, background = (jnp.full((1, 1, 2, 2, c), v, jnp.uint8) for c, v in ((3, 255), (1, 51), (3, 0)))
    source, _, share = step.composite({"foreground": foreground, "alpha": alpha, "background": background})
    np.testing.assert_allclose(source, 0.2, rtol=1e-6)
    np.testing.assert_allclose(share, 0.2, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_eight_devices_do_what_one_does(start, kind):
    """Eight devices with a clip each, and one with eight clips, in float64."""
    shape, ratio, _ = KINDS[kind]
    batch = make_batch(kind, (8, *shape[1:]), dtype=np.float64)
    state = in_float64(start)
    alone = jax.jit(partial(step.train_pass, MattingNetwork(SMALL), learning_rates=RATES, downsample_ratio=ratio))
    together = jax.pmap(
        partial(
            step.train_pass,
            MattingNetwork(SMALL, axis_name="batch"),
            learning_rates=RATES,
            downsample_ratio=ratio,
        ),
        axis_name="batch",
        in_axes=(None, 0),
    )
    once, metrics = alone(state, batch)
    apart, measured = together(state, jax.tree.map(lambda x: x[:, None], batch))
    for one, eight in zip(jax.tree.leaves((once, metrics)), jax.tree.leaves((apart, measured)), strict=True):
        for device in range(8):
            np.testing.assert_allclose(eight[device], one, rtol=1e-9, atol=1e-12)


def one_layer(network, variables, batch, downsample_ratio):
    """In place of the network: a product, normalised over all devices, with running statistics."""
    x = batch["image"] * variables["params"]["encoder"]["w"]
    mean, square = jax.lax.pmean((x.mean(), (x**2).mean()), network.axis_name)
    total = jnp.mean(((x - mean) / jnp.sqrt(square - mean**2 + 0.1) - batch["mask"]) ** 2)
    running = jax.tree.map(lambda old: 0.9 * old + 0.1 * mean, variables["batch_stats"])
    return {"total": total}, {"batch_stats": running}


@pytest.mark.parametrize("how", [optimizer.ADAM, optimizer.Update("lamb", 0.1, clip_norm=1e-3, ema=0.9)])
def test_a_batch_in_parts_is_the_same_on_any_number_of_devices(monkeypatch, how):
    """16 clips in 2 parts on 8, 4 and 2 devices, in float64: losses, gradients (Adam's moments) and statistics.

    Clipped is the mean of all devices and parts.
    """
    monkeypatch.setattr(step, "forward", one_layer)
    rng = np.random.default_rng(0)
    batch = {"image": rng.random((16, 3)) * np.arange(1, 17)[:, None], "mask": rng.random((16, 3))}
    params = {"encoder": {"w": rng.random((1, 3))}}
    state = step.TrainState(params, {"encoder": {"mean": np.zeros(())}}, jax.device_get(optimizer.init(params)))
    state = step.joined(jax.device_get(step.with_average(state, how)))
    network, devices = MattingNetwork(SMALL, axis_name=parallel.AXIS), jax.local_devices()
    results = []
    for count in (8, 4, 2):
        monkeypatch.setattr(jax, "local_devices", lambda count=count: devices[:count])
        monkeypatch.setattr(jax, "local_device_count", lambda count=count: count)
        one = partial(step.train_pass, network, downsample_ratio=1.0, parts=2, how=how)
        found = parallel.pmap(one, (0, 0, None))(parallel.replicate(state), parallel.shard(batch, parts=2), RATES)
        results.append(jax.tree.leaves_with_path(parallel.read_back(found)))
    for other in results[1:]:
        for (path, value), (_, expected) in zip(other, results[0], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-12, err_msg=jax.tree_util.keystr(path))
    state, metrics = split(parallel.read_back(found))
    if how.ema is None:
        assert state.average is None
        return
    assert metrics["gradient_norm/all"] == metrics["gradient_norm/encoder"] > how.clip_norm
    np.testing.assert_allclose(np.linalg.norm(state.moments["encoder"].mu["w"]), 0.1 * how.clip_norm, rtol=1e-12)
    # After one step, the average is what it made.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), state.variables["params"], state.params)
    assert state.variables["batch_stats"]["encoder"]["mean"] == state.average.batch_stats["encoder"]["mean"] != 0


def test_adam_is_adam():
    """Three steps by the textbook, and a group left out of the second."""
    rng = np.random.default_rng(0)
    params = {"a": {"w": jnp.asarray(rng.normal(size=5))}, "b": {"w": jnp.asarray(rng.normal(size=3))}}
    moments = optimizer.init(params)
    textbook = {group: [np.asarray(tree["w"]), 0.0, 0.0, 0] for group, tree in params.items()}
    rates = {"a": 0.1, "b": 0.01}
    for groups in ("ab", "a", "ab"):
        gradients = {group: {"w": jnp.asarray(rng.normal(size=params[group]["w"].shape))} for group in groups}
        params, moments = optimizer.update(params, moments, gradients, rates)
        for group in groups:
            w, m, v, t = textbook[group]
            g, t = np.asarray(gradients[group]["w"]), t + 1
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - rates[group] * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            textbook[group] = [w, m, v, t]
        for group, (w, *_, t) in textbook.items():
            np.testing.assert_allclose(params[group]["w"], w, rtol=1e-12)
            assert moments[group].count == t


def test_training_fits_one_clip():
    """Fifty steps on one batch, of noise with a mask of noise, leave less than a tenth of its loss."""
    batch = make_batch("segmentation", (1, 1, 32, 32))
    network = MattingNetwork("tiny")
    run = jax.jit(partial(step.train_pass, network, learning_rates=dict.fromkeys(RATES, 1e-2)))
    state, first = run(step.init(network, jax.random.key(0)), batch)
    for _ in range(50):
        state, last = run(state, batch)
    assert last["total"] < 0.1 * first["total"]
