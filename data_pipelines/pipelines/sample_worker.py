"""Worker process: makes samples of the plans that it is sent, in memory that it shares with who sent them.

    python -m data_pipelines.pipelines.sample_worker MEMORY CONNECTION...

The arguments are file descriptors; each connection has a thread. It ends when they are closed, that is with its parent,
however that ends. It starts fast and stays small: nothing that it imports may import TensorFlow or JAX.
"""

import functools
import os
import pickle
import sys
import threading
import time
import traceback
from collections import OrderedDict
from multiprocessing.connection import Connection

import numpy as np

from data_pipelines.pipelines import samples
from data_pipelines.pipelines.samples import Render
from data_pipelines.pipelines.shared_memory import map_block
from data_pipelines.pipelines.workers import Done, Job, remember
from rvm_jax.errors import InputError


def main() -> None:
    memory, *connections = map(int, sys.argv[1:])
    for descriptor in connections:
        threading.Thread(target=_serve, args=(Connection(descriptor), memory)).start()


def _serve(connection: Connection, memory: int) -> None:
    renders: OrderedDict[int, Render] = OrderedDict()
    mapped = functools.lru_cache(maxsize=64)(lambda block: np.frombuffer(map_block(memory, block), np.uint8))
    try:
        while True:
            job: Job = connection.recv()
            begin = time.thread_time()
            error: Exception | None = None
            try:
                render = renders[job.stream] if job.render is None else pickle.loads(job.render)
                remember(renders, job.stream, render)
                samples.make(render, job.plans, samples.layers(mapped(job.block), job.shapes), job.first)
            except InputError as wrong:
                error = wrong.with_traceback(None)
            except Exception:  # not all can be pickled
                error = RuntimeError(traceback.format_exc())
            connection.send(Done(error, time.thread_time() - begin))
    except (EOFError, OSError):
        pass  # the parent is gone
    except BaseException:  # of a connection, whose end would be waited for as long as there are other threads
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
