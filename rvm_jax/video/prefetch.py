"""Prefetching and background writing: a thread that makes items ahead, and one that consumes them behind.

Queues are short, so that whoever is ahead waits, and memory stays what it was. An error in a thread is raised in the
main thread, at the next item.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 0.1  # seconds until a thread that waits looks whether it is still wanted


class _End:
    """What a thread says last: that there is no more, or why."""

    def __init__(self, error: BaseException | None = None):
        self.error = error


@contextlib.contextmanager
def prefetched(items: Iterable[T], size: int, stop: Callable[[], Any] = lambda: False) -> Iterator[Iterator[T]]:
    """Gives the same items, made in a thread of their own, up to `size` of them before they are asked for.

    After the first, no more is waited for once `stop` says true. The thread has ended, and a generator is closed, when
    the block is left.
    """
    made: queue.Queue[Any] = queue.Queue(size)
    unwanted = threading.Event()

    def offer(item: Any) -> bool:
        while not unwanted.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=_PATIENCE)
                return True
        return False

    def make() -> None:
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
        begun = False
        while True:
            try:
                item = made.get(timeout=_PATIENCE)
            except queue.Empty:
                if begun and stop():
                    return
                continue
            begun = True
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    thread = threading.Thread(target=make, name="rvm-ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        unwanted.set()
        thread.join()


@contextlib.contextmanager
def background_writer(consume: Callable[[T], None], size: int) -> Iterator[Callable[[T], None]]:
    """Gives a function that hands an item to `consume`, which works in a thread of its own.

    Up to `size` items wait for it; then the function waits. All of them are consumed when the block has ended; if it
    raises, those that wait are left.
    """
    waiting: queue.Queue[Any] = queue.Queue(size)
    failed: list[BaseException] = []
    unwanted = threading.Event()

    def work() -> None:
        while not isinstance(item := waiting.get(), _End):
            if failed or unwanted.is_set():
                continue
            try:
                consume(item)
            except BaseException as error:  # whatever it is, the main thread has to know
                failed.append(error)

    def put(item: T) -> None:
        if failed:
            raise failed[0]
        waiting.put(item)

    thread = threading.Thread(target=work, name="rvm-behind", daemon=True)
    thread.start()
    try:
        yield put
    except BaseException:
        unwanted.set()
        raise
    finally:
        waiting.put(_End())
        thread.join()
    if failed:
        raise failed[0]
