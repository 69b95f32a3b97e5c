"""Prefetching and background writing: a thread that makes items ahead of use, and one that consumes them afterwards.

Queues are short, so that whoever is ahead waits, and memory stays what it was. An error in a thread is raised in the
main thread, at the next item.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from typing import Any, TypeVar

T = TypeVar("T")

_POLL = 0.1  # seconds until a thread that waits looks whether it is still wanted
_JOIN = 1.0  # seconds until a producer that does not end is left to itself, such as one that waits for a camera


class _End:
    """The last item of a queue: there is no more, or why."""

    def __init__(self, error: BaseException | None = None):
        self.error = error


@contextlib.contextmanager
def prefetched(
    items: Iterable[T],
    size: int,
    stop: Callable[[], Any] = lambda: False,
    *,
    merge: Callable[[T, T], T] | None = None,
    patience: float | None = None,
) -> Iterator[Iterator[T]]:
    """Gives the same items, made in a thread of their own, up to `size` of them before they are asked for.

    No more is waited for once `stop` says true; and after the first, `TimeoutError` is raised once nothing has come for
    `patience` seconds. With `merge`, the thread never waits: where there is no room for an item, it takes one that
    waits out of the queue and puts `merge(old, new)` there. When the block is left the thread has ended, and a
    generator is closed; one that is in the middle of an item is given a second, and closed once that is made.
    """
    produced: queue.Queue[Any] = queue.Queue(size)
    cancelled = threading.Event()
    patience_at_end = _JOIN

    def offer(item: Any) -> bool:
        while not cancelled.is_set():
            with contextlib.suppress(queue.Full):
                produced.put(item, timeout=0 if merge and not isinstance(item, _End) else _POLL)
                return True
            if merge and not isinstance(item, _End):
                with contextlib.suppress(queue.Empty):
                    item = merge(produced.get_nowait(), item)
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not offer(item):
                    return
            offer(_End())
        except BaseException as error:  # whatever it is, the main thread has to know
            offer(_End(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def take() -> Iterator[T]:
        nonlocal patience_at_end
        started = False
        asked = time.monotonic()
        while True:
            try:
                item = produced.get(timeout=_POLL)
            except queue.Empty:
                if stop():
                    patience_at_end = _POLL  # it stalls
                    return
                if started and patience is not None and time.monotonic() - asked > patience:
                    raise TimeoutError from None
                continue
            started = True
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
            asked = time.monotonic()

    thread = threading.Thread(target=produce, name="rvm-prefetch", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        cancelled.set()
        thread.join(patience_at_end)


@contextlib.contextmanager
def entered(
    manager: contextlib.AbstractContextManager[T], stop: Callable[[], Any] = lambda: False
) -> Iterator[T | None]:
    """Gives what a context manager gives, entered in a thread of its own; None if `stop` says true before that is done.

    Then it is left to the thread, which leaves the context as soon as it has entered it.
    """
    opened: futures.Future[T] = futures.Future()

    def enter() -> None:
        try:
            value = manager.__enter__()
        except BaseException as error:  # whatever it is, the main thread has to know
            with contextlib.suppress(futures.InvalidStateError):
                opened.set_exception(error)
            return
        try:
            opened.set_result(value)
        except futures.InvalidStateError:  # nobody waits for it any more
            manager.__exit__(None, None, None)

    threading.Thread(target=enter, name="rvm-open", daemon=True).start()
    while not futures.wait([opened], _POLL).done:
        if stop() and opened.cancel():
            yield None
            return
    value = opened.result()
    with contextlib.ExitStack() as stack:
        stack.push(manager.__exit__)
        yield value


def close(generator: Generator[Any]) -> bool:
    """Close a generator; False if a thread that was left to itself is still in the middle of an item of it."""
    try:
        generator.close()
    except ValueError:  # it is already executing
        return False
    return True


@contextlib.contextmanager
def background_writer(
    consume: Callable[[T], None], size: int, waited: Callable[[], object] = lambda: None
) -> Iterator[Callable[[T], None]]:
    """Gives a function that hands an item to `consume`, which works in a thread of its own.

    Up to `size` items wait for it; then the function waits. All of them are consumed when the block has ended; if it
    raises, or Ctrl-C comes while it ends, those that wait are left, and the one that is being consumed is the last.
    `waited` is called again and again while the thread is waited for; if it raises, the thread is left to itself.
    """
    waiting: queue.Queue[Any] = queue.Queue(size)
    failed: list[BaseException] = []
    cancelled = threading.Event()

    def work() -> None:
        while not isinstance(item := waiting.get(), _End):
            if failed or cancelled.is_set():
                continue
            try:
                consume(item)
            except BaseException as error:  # whatever it is, the main thread has to know
                failed.append(error)

    def offer(item: Any) -> None:
        while True:
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=_POLL)
                return
            waited()

    def put(item: T) -> None:
        if failed:
            raise failed[0]
        offer(item)

    def join() -> None:
        offer(_End())
        while thread.is_alive():
            thread.join(_POLL)
            if thread.is_alive():
                waited()

    thread = threading.Thread(target=work, name="rvm-writer", daemon=True)
    thread.start()
    try:
        yield put
    except BaseException:
        cancelled.set()
        raise
    finally:
        try:
            join()
        except KeyboardInterrupt:
            cancelled.set()
            join()
            raise
    if failed:
        raise failed[0]
