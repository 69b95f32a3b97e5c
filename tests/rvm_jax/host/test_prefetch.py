"""Prefetching and background writing: in order, bounded, and never an error lost."""

import contextlib
import itertools
import threading
import time

import pytest

from rvm_jax.host import prefetch


def writers():
    return {thread for thread in threading.enumerate() if thread.name == "rvm-writer"}


@pytest.fixture
def _no_writer_left():
    before = writers()  # other tests may have left some on purpose
    yield
    assert writers() == before


def test_items_come_in_order():
    with prefetch.prefetched(range(100), 3) as items:
        assert list(items) == list(range(100))


def test_no_more_is_made_than_was_asked_for():
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    with prefetch.prefetched(make(), 3) as items:
        assert next(items) == 0
        time.sleep(0.3)
        assert len(made) <= 1 + 3 + 1  # taken, waiting, and one in hand


def test_an_error_of_the_maker_is_raised_where_items_are_taken():
    def make():
        yield 1
        raise KeyError("gone")

    with prefetch.prefetched(make(), 3) as items:
        assert next(items) == 1
        with pytest.raises(KeyError, match="gone"):
            next(items)


@pytest.mark.parametrize("leave", ["stop", "error"])
def test_nobody_waits_for_a_maker_that_stalls(leave):
    """Neither for its next item nor, when the block is left, for its thread: it stalls until after that."""
    stop, released, closed = threading.Event(), threading.Event(), threading.Event()
    waited = []

    def make():
        try:
            yield 1
            waited.append(released.wait(20))
        finally:
            closed.set()

    generator = make()

    def run():
        with prefetch.prefetched(generator, 3, stop.is_set) as items:
            assert next(items) == 1
            stop.set()
            assert list(items) == []
            if leave == "error":
                raise KeyError

    with pytest.raises(KeyError) if leave == "error" else contextlib.nullcontext():
        run()
    assert waited == []  # it stalls still
    assert not prefetch.close(generator)
    released.set()
    assert closed.wait(20)
    assert waited == [True]
    assert prefetch.close(generator)


def test_what_waits_is_merged_with_what_comes():
    """Who makes never waits: what was taken is whole, and of the rest the newest is there."""
    taken, made = threading.Event(), threading.Event()

    def make():
        yield [0]
        assert taken.wait(20)
        yield from ([number] for number in range(1, 100))
        made.set()

    with prefetch.prefetched(make(), 1, merge=lambda old, new: old + new) as items:
        assert next(items) == [0]
        taken.set()
        assert made.wait(20)
        assert list(items) == [list(range(1, 100))]


def test_patience_ends_when_nothing_has_come_for_long():
    released = threading.Event()

    def make():
        yield 1
        released.wait(20)

    with prefetch.prefetched(make(), 3, patience=0.2) as items:
        assert next(items) == 1
        with pytest.raises(TimeoutError):
            next(items)
        released.set()


@contextlib.contextmanager
def stalling(go: threading.Event, told: list[str]):
    told.append("opens")
    assert go.wait(20)
    try:
        yield 7
    finally:
        told.append("closed")


def test_a_context_that_opens_is_entered_and_left():
    told = []
    go = threading.Event()
    go.set()
    with prefetch.entered(stalling(go, told)) as value:
        assert value == 7
        assert told == ["opens"]
    assert told == ["opens", "closed"]


def test_a_context_that_does_not_open_is_left_to_itself():
    told, go = [], threading.Event()
    with prefetch.entered(stalling(go, told), lambda: True) as value:
        assert value is None
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "rvm-open")
    go.set()
    thread.join(20)
    assert told == ["opens", "closed"]


def test_a_context_that_cannot_be_opened_says_so():
    @contextlib.contextmanager
    def failing():
        raise KeyError("gone")
        yield

    with pytest.raises(KeyError, match="gone"), prefetch.entered(failing()):
        pass


def test_a_generator_that_is_left_early_is_closed():
    closed = threading.Event()

    def make():
        try:
            yield from range(100)
        finally:
            closed.set()

    with prefetch.prefetched(make(), 3) as items:
        next(items)
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "rvm-prefetch"]


@pytest.mark.usefixtures("_no_writer_left")
def test_all_is_consumed_in_order_when_the_block_ends():
    seen = []

    def consume(item):
        time.sleep(0.01)
        seen.append(item)

    with prefetch.background_writer(consume, 2) as put:
        for number in range(20):
            put(number)
    assert seen == list(range(20))


def test_who_puts_waits_for_who_consumes():
    let_go = threading.Event()
    with prefetch.background_writer(lambda item: let_go.wait(), 2) as put:
        thread = threading.Thread(target=lambda: [put(number) for number in range(10)])
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        let_go.set()
        thread.join()


def consume_badly(item):
    raise OSError(28, "No space left on device")


def test_an_error_of_the_consumer_is_raised_at_the_next_item_or_the_end():
    def run(items):
        with prefetch.background_writer(consume_badly, 2) as put:
            for item in items:
                put(item)

    endless = itertools.count()
    for items in (endless, [1]):
        with pytest.raises(OSError, match="No space left"):
            run(items)


def test_what_waits_is_left_if_the_block_fails():
    seen = []
    begun = threading.Event()

    def consume(item):
        begun.set()
        time.sleep(0.2)
        seen.append(item)

    def run():
        with prefetch.background_writer(consume, 5) as put:
            for number in range(5):
                put(number)
            begun.wait()
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert len(seen) <= 2


@pytest.mark.usefixtures("_no_writer_left")
def test_ctrl_c_at_the_end_waits_for_what_is_being_consumed(monkeypatch):
    """And leaves the rest: nobody may close a file in which a thread still writes."""
    seen = []
    begun, released = threading.Event(), threading.Event()
    join = threading.Thread.join

    def consume(item):
        begun.set()
        assert released.wait(20)
        seen.append(item)

    def interrupted(thread, timeout=None):
        monkeypatch.setattr(threading.Thread, "join", join)
        assert begun.wait(20)
        threading.Timer(0.1, released.set).start()
        raise KeyboardInterrupt

    def run():
        with prefetch.background_writer(consume, 5) as put:
            for number in range(4):
                put(number)
            monkeypatch.setattr(threading.Thread, "join", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == [0]
