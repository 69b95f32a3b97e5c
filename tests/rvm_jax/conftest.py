"""What several tests of the network share: small networks and random weights and frames for them."""

import functools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.matte import Matte
from rvm_jax.model.network import MattingNetwork, variant_table
from rvm_jax.model.variants import REFINERS, ResNet, Variant
from rvm_jax.weights.files import Weights, write_weights

TINY_RESNET = Variant("tiny_resnet", ResNet(4, (8, 12, 16, 24), (1, 2, 1, 2)), aspp=16, decoder=(12, 8, 8, 8))


@functools.cache
def _shapes(network: MattingNetwork, table: Variant) -> Any:
    """`table` is what the variant's name stands for: some tests let "tiny" stand for a smaller one."""
    return jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32))


def random_variables(network: MattingNetwork, dtype: Any = jnp.float64) -> Any:
    """Weights that make every path matter (no zero bias, no unit variance) and leave most alphas between 0 and 1."""

    def fill(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("count"):
            return jnp.asarray(rng.integers(1000), jnp.int32)
        if name.endswith(("var", "scale")):
            return jnp.asarray(rng.uniform(0.7, 1.3, leaf.shape), dtype)
        if name.endswith("box_kernel"):
            return jnp.asarray(1 / 9 + 0.01 * rng.standard_normal(leaf.shape), dtype)
        if len(leaf.shape) == 4:
            gain = 0.2 if "project_mat" in name or "refiner/conv3" in name else 1
            return jnp.asarray(gain * rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:3])), dtype)
        if name.endswith("project_mat/bias"):
            return jnp.asarray([0, 0, 0, 0.5], dtype)
        return jnp.asarray(0.1 * rng.standard_normal(leaf.shape), dtype)

    return jax.tree_util.tree_map_with_path(fill, _shapes(network, variant_table(network.variant)))


def random_frames(*shape: int, seed: int = 0, dtype: Any = jnp.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).random(shape), dtype)


def write_tiny(folder: Path) -> Path:
    """The folder of a tiny network with random weights, as commands take it."""
    variables = random_variables(MattingNetwork("tiny"), jnp.float32)
    trees = {kind: {**tree} for kind, tree in variables.items()}
    write_weights(Weights(variant_table("tiny"), "deep_guided_filter", trees), folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def matte() -> Matte:
    """A tiny network with random weights."""
    network = MattingNetwork("tiny")
    return Matte(network, random_variables(network, jnp.float32))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Of PyTorch: images are so small that threads only wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=["tiny", "tiny_resnet"])
def variant(request: pytest.FixtureRequest) -> Variant:
    return TINY_RESNET if request.param == "tiny_resnet" else variant_table(request.param)


@pytest.fixture(scope="session", params=REFINERS)
def network(request: pytest.FixtureRequest, variant: Variant) -> MattingNetwork:
    return MattingNetwork(variant, request.param)
