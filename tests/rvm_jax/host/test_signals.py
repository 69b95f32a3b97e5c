import os
import signal

import pytest

from rvm_jax.errors import Stopped
from rvm_jax.host.signals import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_asks_to_stop_and_acts_the_second_time(number, capfd):
    seen = []
    before = signal.signal(number, lambda *_: seen.append(number))
    try:
        with stop_requests("stopping soon") as asked:
            assert asked() is None
            os.kill(os.getpid(), number)
            assert asked() == number
            assert seen == []
            assert capfd.readouterr().err == f"rvm: {number.name}: stopping soon\n"
            os.kill(os.getpid(), number)
            assert seen == [number]
    finally:
        signal.signal(number, before)


def test_the_exit_status_is_that_of_the_signal_unless_it_is_given():
    assert Stopped("", signal.SIGUSR1).status == 138
    assert Stopped("", signal.SIGUSR1, 0).status == 0
