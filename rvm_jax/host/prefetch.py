"""Prefetching and background writing: a thread that makes items ahead of use, and one that consumes them afterwards.

Queues are short, so that whoever is ahead waits, and memory stays what it was. An error in a thread is raised in the
main thread, at the next item.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_POLL = 0.1  # seconds until a thread that waits looks whether it is still wanted
_JOIN = 1.0  # seconds until a producer that does not end is left to itself, such as one that waits for a camera


class _End:
    """The last item of a queue: there is no more, or why."""

    def __init__(self, error: BaseException | None = None):
        self.error = error


@contextlib.contextmanager
def prefetched(items: Iterable[T], size: int, stop: Callable[[], Any] = lambda: False) -> Iterator[Iterator[T]]:
    """Gives the same items, made in a thread of their own, up to `size` of them before they are asked for.

    After the first, no more is waited for once `stop` says true. When the block is left the thread has ended, and a
    generator is closed; one that is in the middle of an item is given a second, and closed once that is made.
    """
    produced: queue.Queue[Any] = queue.Queue(size)
    cancelled = threading.Event()

    def offer(item: Any) -> bool:
        while not cancelled.is_set():
            with contextlib.suppress(queue.Full):
                produced.put(item, timeout=_POLL)
                return True
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
        started = False
        while True:
            try:
                item = produced.get(timeout=_POLL)
            except queue.Empty:
                if started and stop():
                    return
                continue
            started = True
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    thread = threading.Thread(target=produce, name="rvm-prefetch", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        cancelled.set()
        thread.join(_JOIN)


def close(generator: Generator[Any]) -> bool:
    """Close a generator; False if a thread that was left to itself is still in the middle of an item of it."""
    try:
        generator.close()
    except ValueError:  # it is already executing
        return False
    return True


@contextlib.contextmanager
def background_writer(consume: Callable[[T], None], size: int) -> Iterator[Callable[[T], None]]:
    """Gives a function that hands an item to `consume`, which works in a thread of its own.

    Up to `size` items wait for it; then the function waits. All of them are consumed when the block has ended; if it
    raises, those that wait are left.
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

    def put(item: T) -> None:
        if failed:
            raise failed[0]
        waiting.put(item)

    thread = threading.Thread(target=work, name="rvm-writer", daemon=True)
    thread.start()
    try:
        yield put
    except BaseException:
        cancelled.set()
        raise
    finally:
        waiting.put(_End())
        thread.join()
    if failed:
        raise failed[0]
