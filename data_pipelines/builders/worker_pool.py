"""A pool of worker processes on this machine that write the shards of a dataset."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event

from data_pipelines.builders import shards
from data_pipelines.builders.shards import Shard
from rvm_jax.errors import InputError
from rvm_jax.host.cores import cores
from rvm_jax.host.signals import blocked


def run(missing: Sequence[Shard], done: Callable[[Shard], None], *, workers: int | None = None) -> None:
    """Have shards written: see `shards.Run`. There are `worker_count` processes, unless `workers` says otherwise."""
    with _pool(min(workers or worker_count(), len(missing))) as submit:
        jobs = {submit(shard): shard for shard in missing}
        for job in as_completed(jobs):
            job.result()
            done(jobs[job])


def worker_count() -> int:
    """What RVM_WORKERS says, or as many as there are cores."""
    given = os.environ.get("RVM_WORKERS")
    if given is None:
        return cores()
    if not given.isdecimal() or int(given) == 0:
        raise InputError(f"RVM_WORKERS is {given!r}: expected the number of worker processes, 1 or more")
    return int(given)


Submit = Callable[[Shard], "Future[None]"]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Submit]:
    """Worker processes. If the block raises, Ctrl-C included, they stop within a frame and remove what is half done."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of TensorFlow, dead
    stop = context.Event()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(stop,)) as executor:

        def submit(shard: Shard) -> "Future[None]":
            with blocked([signal.SIGINT]):  # here the workers start
                return executor.submit(_write, shard)

        try:
            yield submit
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, perhaps because the memory is full: try fewer, such as RVM_WORKERS=1"
            ) from error
        except BaseException:
            stop.set()
            executor.shutdown(cancel_futures=True)
            raise


_stop: Event | None = None


def _start(stop: Event) -> None:
    """What a worker process does first."""
    global _stop
    _stop = stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, the workers of a killed parent would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write(shard: Shard) -> None:
    shards.write(shard, stop=lambda: _stop is not None and _stop.is_set())
