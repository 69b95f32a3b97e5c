import os
import signal

import pytest

from rvm_jax.errors import Stopped
from rvm_jax.host.signals import late_interrupt, stop_requests


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


def test_ctrl_c_waits_for_the_end_of_a_block_but_not_twice():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []

    def block(times: int) -> None:
        with late_interrupt():
            for number in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                done.append(number)

    try:
        for times, expected in ((1, [0]), (3, [0, 0])):
            with pytest.raises(KeyboardInterrupt):
                block(times)
            assert done == expected
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_exit_status_is_that_of_the_signal_unless_it_is_given():
    assert Stopped("", signal.SIGUSR1).status == 138
    assert Stopped("", signal.SIGUSR1, 0).status == 0
