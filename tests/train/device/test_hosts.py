"""How hosts agree on where to stop, with a dictionary for JAX's key-value store."""

import signal
import threading
from types import SimpleNamespace

import jax
import pytest
from jax._src import distributed

from train.device.hosts import Hosts


class Store(dict):
    def key_value_set(self, name, text, allow_overwrite):
        if name in self and not allow_overwrite:
            raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {name}")
        self[name] = text

    def key_value_dir_get(self, prefix):
        return list(self.items())


@pytest.fixture
def three(monkeypatch):
    store, made = Store(), []
    for number in range(3):
        state = SimpleNamespace(process_id=number, num_processes=3, client=store)
        monkeypatch.setattr(distributed, "global_state", state)
        made.append(Hosts())
    return made


def test_all_hosts_stop_at_the_same_call(three):
    """It is the one after the furthest that any of them was at, and nobody gets there before all know."""
    asked = [lambda: None, lambda: signal.SIGUSR1, lambda: None]
    stops = [host.agree_on_stopping(one) for host, one in zip(three, asked, strict=True)]
    for ask, calls in zip(stops, (2, 1, 4), strict=True):
        assert [ask() for _ in range(calls)] == [None] * calls
    three[1].look()  # says that it was asked
    for host in three:
        host.look()
    waiting = threading.Thread(target=stops[0], daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()  # it has not heard of the others
    for host in three:
        host.look()
    waiting.join()
    assert [stops[0]() for _ in range(3)] == [None, signal.SIGUSR1, signal.SIGUSR1]
    assert [stops[1]() for _ in range(5)] == [None] * 3 + [signal.SIGUSR1] * 2
    assert stops[2]() == signal.SIGUSR1


def test_hosts_with_the_same_are_counted(three):
    counted = []
    threads = [
        threading.Thread(target=lambda host, what: counted.append(host.sharing(what)), args=(host, what))
        for host, what in zip(three, ("a: 0", "b: 0", "a: 0"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counted) == [1, 2, 2]


def test_a_host_that_is_silent_is_given_up(three, monkeypatch):
    monkeypatch.setattr("train.device.hosts.SECONDS_OF_SILENCE", 0.0)
    three[0].say("alive/1", "7")
    three[0].look()
    three[0].look()
    assert three[2].heard()["failed"].startswith("nothing was heard of host 1 for 0 s: its process or its machine")
