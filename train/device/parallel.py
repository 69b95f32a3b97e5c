"""Data parallelism: the only place that knows how many devices and hosts there are.

A pass is a function of one device's part of the batch (`step`). Here it becomes one of all devices: the state is the
same on each of them, the batch is divided among them, and what the pass averages it averages over all hosts.
Arrays that lie on devices have one more axis at the front, an entry for each device of this host.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from rvm_jax.host import memory
from train.device import flops

AXIS = "batch"
"""The name of the axis over which passes average."""

Tree = TypeVar("Tree")


def set_cpu_devices(devices: int) -> None:
    """Let JAX see the processor as so many devices. To be called before JAX computes anything."""
    # The size of XLA's thread pool. Devices that wait for others hold a thread each, and if no thread is left for those
    # they wait for, they wait for ever.
    os.environ.setdefault("NPROC", str(8 * devices))
    jax.config.update("jax_num_cpu_devices", devices)


def host() -> tuple[int, int]:
    """The number of this host, and how many there are."""
    return jax.process_index(), jax.process_count()


def replicate(tree: Tree) -> Tree:
    """The same on every device of this host."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: _put(np.broadcast_to(x, (devices, *np.shape(x)))), tree)


def read_back(tree: Tree) -> Tree:
    """What is the same on every device, as NumPy arrays. Waits for it, but not for what the devices do after it."""
    first = jax.device_get(jax.tree.map(lambda x: x.addressable_shards[0].data, tree))
    # Indexed here and not on the device, which would come to that only after all that it was given since.
    return jax.tree.map(lambda x: np.asarray(x[0]), first)


def shard(batch: Mapping[str, np.ndarray], parts: int = 1) -> dict[str, jax.Array]:
    """This host's share of a batch, each of its `parts` divided among its devices. Returns while it is copied there.

    A device's clips are in order of their parts, so that the parts are of the same clips on any number of devices.
    """
    devices = jax.local_device_count()

    def divided(x: np.ndarray) -> np.ndarray:
        by_part = x.reshape(parts, devices, -1, *x.shape[1:])
        return by_part.swapaxes(0, 1).reshape(devices, -1, *x.shape[1:])  # [devices, clips of all parts, …]

    return {name: _put(divided(x)) for name, x in batch.items()}


def gather(tree: Tree) -> Tree:
    """What the devices of this host made of their parts of a batch, put together again, as NumPy arrays."""
    return jax.tree.map(lambda x: jax.device_get(x).reshape(-1, *x.shape[2:]), tree)


def pmap(
    function: Callable[..., Any], in_axes: tuple[int | None, ...], *, donated: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """`function` on all devices at once: arguments with axis 0 lie on the devices, those with None are given to all."""
    return jax.pmap(function, axis_name=AXIS, in_axes=in_axes, donate_argnums=donated)


class Program:
    """A function of all devices, compiled ahead for arguments of certain shapes.

    Attributes:
        memory: Bytes that it needs of each device, its arguments among them.
        flops: Floating point operations of each device in a call, as `flops` counts them.
    """

    def __init__(self, function: Any, *arguments: Any) -> None:
        """Compile what `pmap` gave. `arguments`: arrays that lie on the devices, or the shapes of such arrays alone."""
        if jax.process_count() > 1:  # `pmap` takes no shapes there
            arguments = jax.tree.map(_stand_in, arguments)
        self._compiled = function.lower(*arguments).compile()
        self._mesh = Mesh(np.array(jax.devices()), (AXIS,))
        size = self._compiled.memory_analysis()
        made = size.output_size_in_bytes - size.alias_size_in_bytes + size.temp_size_in_bytes
        self.memory: int = size.argument_size_in_bytes + made + size.generated_code_size_in_bytes
        self.flops = flops.count(function, *arguments)

    def __call__(self, *arguments: Any) -> Any:
        if jax.process_count() == 1:
            return self._compiled(*arguments)
        # What is compiled knows all hosts' devices, so its arrays span them.
        mesh, spec = self._mesh, PartitionSpec(AXIS)
        spanning = jax.tree.map(
            lambda x: (
                multihost_utils.host_local_array_to_global_array(x, mesh, spec) if isinstance(x, jax.Array) else x
            ),
            arguments,
        )
        return multihost_utils.global_array_to_host_local_array(self._compiled(*spanning), mesh, spec)


def shapes_of_shards(shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike) -> dict[str, jax.ShapeDtypeStruct]:
    """What `shard` gives of a batch, whose arrays have these shapes over all hosts."""
    devices, share = jax.local_device_count(), jax.device_count()
    return {
        name: jax.ShapeDtypeStruct((devices, size // share, *rest), dtype) for name, (size, *rest) in shapes.items()
    }


def from_first_host(tree: Tree | None, like: Tree) -> Tree:
    """What the first host has, on every host, bit for bit: as bytes, since a sum over hosts makes 0.0 of -0.0.

    `like` has the shapes and dtypes; the other hosts need nothing but that.
    """
    if jax.process_count() == 1:
        assert tree is not None
        return tree
    given = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like) if tree is None else tree
    as_bytes = jax.tree.map(lambda x: np.frombuffer(np.asarray(x).tobytes(), np.uint8), given)
    received = multihost_utils.broadcast_one_to_all(as_bytes)
    return jax.tree.map(lambda x, to: np.asarray(x).view(to.dtype).reshape(to.shape), received, like)


def word_from_first_host(word: Any) -> Any:
    """A short value that JSON can hold, as the first host has it, on every host."""
    sent = json.dumps(word).encode().ljust(256)
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(np.frombuffer(sent, np.uint8)))))


def peak_memory() -> int | None:
    """The most bytes that a device of this host has held so far, if it tells."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    return max((one["peak_bytes_in_use"] for one in stats if one), default=None)


def memory_limit() -> int | None:
    """The bytes of the smallest device of this host that a program may use, if it tells.

    Those that are one CPU share what the machine or its container has.
    """
    if jax.default_backend() == "cpu":
        usable = memory.usable_bytes()
        return usable and usable // jax.local_device_count()
    stats = [device.memory_stats() for device in jax.local_devices()]
    return min((one["bytes_limit"] for one in stats if one and "bytes_limit" in one), default=None)


def _stand_in(leaf: Any) -> Any:
    return _put(np.zeros(leaf.shape, leaf.dtype)) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _put(array: np.ndarray) -> jax.Array:
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(AXIS)))
