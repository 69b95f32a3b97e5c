"""Training with `remat`: the same numbers in less memory."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.remat import remat_block
from rvm_jax.model.variants import VARIANTS, InvertedResidual, MobileNetV3, Variant
from tests.rvm_jax.conftest import TINY_RESNET, random_frames, random_variables

# One block a size: most of a test's time is compiling.
SMALL = Variant(
    "small",
    MobileNetV3(
        stem=4,
        blocks=tuple(InvertedResidual(3, 6, 4, False, "relu", stride=2) for _ in range(3)),
        last=6,
        taps=(0, 1, 2, 4),
    ),
    aspp=4,
    decoder=(4, 4, 4, 4),
)
PASSES = {"matting": (1.0, False), "through the refiner": (0.5, False), "segmentation": (1.0, True)}


def objective(network, ratio=1.0, segmentation=False):
    """A loss that every output matters to, and beside it the outputs and the new running statistics."""

    def loss(params, batch_stats, frames):
        result, updated = network.apply(
            {"params": params, "batch_stats": batch_stats},
            frames,
            downsample_ratio=ratio,
            train=True,
            segmentation=segmentation,
            mutable=["batch_stats"],
        )
        outputs = jax.tree.leaves(result)
        return sum(jnp.mean(jnp.sin(3.0 * y)) for y in outputs), (outputs, updated["batch_stats"])

    return loss


def assert_same(one, other, tolerance):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        (SMALL, "matting"),
        *(pytest.param(VARIANTS["tiny"], kind, marks=pytest.mark.slow) for kind in PASSES if kind != "matting"),
        pytest.param(TINY_RESNET, "matting", marks=pytest.mark.slow),
    ],
    ids=lambda value: value.name if isinstance(value, Variant) else value,
)
def test_results_gradients_and_statistics_are_the_same(variant, kind):
    ratio, segmentation = PASSES[kind]
    variables = random_variables(MattingNetwork(variant))
    frames = random_frames(2, 2, 66, 74, 3)

    def run(remat):
        loss = objective(MattingNetwork(variant, remat=remat), ratio, segmentation)
        differentiate = jax.jit(jax.value_and_grad(loss, argnums=(0, 2), has_aux=True))
        return differentiate(variables["params"], variables["batch_stats"], frames)

    assert_same(run(remat=True), run(remat=False), 1e-12)


@pytest.mark.slow
def test_averages_over_devices_are_the_same():
    variables = random_variables(MattingNetwork("tiny"))
    frames = random_frames(4, 1, 2, 32, 32, 3)

    def run(remat):
        loss = objective(MattingNetwork("tiny", remat=remat, axis_name="devices"))
        differentiate = jax.pmap(jax.grad(loss, has_aux=True), "devices", in_axes=(None, None, 0))
        return differentiate(variables["params"], variables["batch_stats"], frames)

    assert_same(run(remat=True), run(remat=False), 1e-12)


@pytest.mark.slow
def test_bfloat16():
    variables = random_variables(MattingNetwork("tiny"), jnp.float32)
    frames = random_frames(1, 2, 32, 32, 3, dtype=jnp.float32)

    def run(remat):
        loss = objective(MattingNetwork("tiny", remat=remat, dtype=jnp.bfloat16))
        return jax.jit(loss)(variables["params"], variables["batch_stats"], frames)

    (_, (outputs, _)), (_, (expected, _)) = run(remat=True), run(remat=False)
    for a, b in zip(outputs, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-3)  # less than one digit of bfloat16


def test_the_initial_weights_are_the_same():
    frames = jnp.zeros((1, 1, 32, 32, 3))
    one, other = (
        jax.jit(MattingNetwork(SMALL, remat=remat).init)(jax.random.key(0), frames) for remat in (True, False)
    )
    assert_same(one, other, 0)


@pytest.mark.parametrize(("platform", "sorts"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_accelerators_wait_by_a_barrier_and_cpus_by_a_sort(platform, sorts):
    """A sort of a whole activation's last elements is a relayout on TPUs; barriers CPUs ignore."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            return remat_block(lambda module, x: jnp.sin(x) * module.param("scale", nn.initializers.ones, ()))(self, x)

    x = jnp.ones((2, 3))
    variables = Twice().init(jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda variables, x: Twice().apply(variables, x).sum()))
    program = jax.export.export(gradient, platforms=[platform])(variables, x).mlir_module()
    assert program.count("stablehlo.sort") == sorts
    assert program.count("stablehlo.optimization_barrier") == 1 - sorts


def test_memory():
    frames = jax.ShapeDtypeStruct((1, 8, 128, 128, 3), jnp.float32)
    variables = jax.eval_shape(MattingNetwork(SMALL).init, jax.random.key(0), frames)

    def needed(remat):
        differentiate = jax.jit(jax.grad(objective(MattingNetwork(SMALL, remat=remat)), has_aux=True))
        compiled = differentiate.lower(variables["params"], variables["batch_stats"], frames).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed(remat=True) < needed(remat=False) / 2
