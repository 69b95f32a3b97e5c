"""Arrays on eight devices and back."""

import jax
import numpy as np
import pytest

from data_pipelines.pipelines.batches import Slice
from train.device import parallel


def test_what_is_replicated_is_read_back():
    tree = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.int32(3)}
    on_devices = parallel.replicate(tree)
    assert on_devices["w"].shape == (8, 2, 3)
    assert len({shard.device for shard in on_devices["w"].addressable_shards}) == 8
    back = parallel.read_back(on_devices)
    assert isinstance(back["w"], np.ndarray)
    np.testing.assert_array_equal(back["w"], tree["w"])
    assert isinstance(back["count"], np.ndarray)
    assert back["count"] == 3
    assert back["count"].shape == ()


def test_every_device_has_its_part_of_a_batch():
    batch = {"image": np.arange(16 * 2, dtype=np.uint8).reshape(16, 2)}
    divided = parallel.shard(batch)["image"]
    for device, shard in zip(jax.local_devices(), divided.addressable_shards, strict=True):
        assert shard.device == device
    np.testing.assert_array_equal(divided, batch["image"].reshape(8, 2, 2))
    np.testing.assert_array_equal(parallel.gather({"image": divided})["image"], batch["image"])


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_the_parts_of_a_batch_are_of_the_same_clips_on_any_number_of_hosts(hosts):
    """128 clips in 4 parts, on 8 devices a host. Parts are told apart as `step.accumulate` does it on a device."""
    found: dict[int, set[int]] = {}
    for host in range(hosts):
        numbers = Slice(128, host=host, hosts=hosts, parts=4).number(np.arange(128 // hosts))
        divided = np.asarray(parallel.shard({"clip": numbers}, parts=4)["clip"])
        for part in range(4):
            found.setdefault(part, set()).update(divided.reshape(8, 4, -1)[:, part].ravel().tolist())
    assert found == {part: set(range(32 * part, 32 * part + 32)) for part in range(4)}


def test_a_function_runs_on_every_device_and_averages():
    run = parallel.pmap(
        lambda state, batch, rate: state + rate * jax.lax.pmean(batch.sum(), parallel.AXIS), (0, 0, None), donated=(0,)
    )
    state = parallel.replicate(np.float32(1))
    batch = parallel.shard({"x": np.arange(16, dtype=np.float32)})["x"]
    after = run(state, batch, 0.5)
    assert state.is_deleted()
    np.testing.assert_array_equal(after, np.full(8, 1 + 0.5 * np.arange(16).sum() / 8, np.float32))


def test_devices_that_do_not_tell_their_memory():
    assert parallel.peak_memory() is None


@pytest.mark.parametrize(("usable", "limit"), [(800, 100), (None, None)])
def test_devices_that_are_one_cpu_share_its_memory(monkeypatch, usable, limit):
    monkeypatch.setattr(parallel.memory, "usable_bytes", lambda: usable)
    assert parallel.memory_limit() == limit
