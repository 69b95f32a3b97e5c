"""Apache Beam's workers write the shards of a dataset, here or on any machines that see the same folders.

TFDS's own way to Beam, `example_gen_per_shard`, holds a shard in memory and gives no table of its clips, and a worker
that dies leaves half a file under its final name. Here Beam only says which worker writes which shard.
"""

import contextlib
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from data_pipelines.builders import shards
from data_pipelines.builders.shards import Shard
from rvm_jax.errors import InputError

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_OF_OLD_NEWS = 90
"""How long a folder on another machine (NFS) may look as it was."""


class BeamRequest(NamedTuple):
    """The name of a runner, and the `PipelineOptions` for it."""

    runner: str
    options: Any


def requested(runner: str | None, given: str) -> BeamRequest | None:
    """What is asked for by a runner, if any, and its options, written as TFDS has them: `name=value,name=value`."""
    if runner is None:
        if given:
            raise InputError(f"--beam-options {given}: give --beam-runner too, such as DirectRunner")
        return None
    logging.getLogger().setLevel(logging.ERROR)
    try:
        from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions
    except ImportError as error:
        raise InputError(
            f"--beam-runner {runner}: Apache Beam is not installed: pip install 'rvm-jax[beam]'"
        ) from error
    flags = [f"--{option.strip().removeprefix('--')}" for option in given.split(",") if option.strip()]
    options = PipelineOptions(flags)
    known = options.get_all_options(retain_unknown_options=False)
    unknown = [flag for flag in flags if flag[2:].partition("=")[0] not in known]
    if unknown:
        raise InputError(f"--beam-options {given}: Beam does not know {', '.join(unknown)}; expected name=value,…")
    worker = options.view_as(WorkerOptions)
    worker.default_sdk_harness_log_level = worker.default_sdk_harness_log_level or "ERROR"
    return BeamRequest(runner, options)


def run(missing: Sequence[Shard], done: Callable[[Shard], None], *, runner: Any, options: Any) -> None:
    """Have shards written: see `shards.Run`. `runner` and `options` are those of a Beam pipeline."""
    import apache_beam as beam

    with _watching(missing, done):
        try:
            with beam.Pipeline(runner=runner, options=options) as pipeline:
                jobs = pipeline | beam.Create([pickle.dumps(shard) for shard in missing])
                jobs | beam.Reshuffle() | beam.Map(_write)
        except Exception as error:  # whatever the runner raises
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"Beam's {runner} could not write the shards: {reason[-1]}") from error


def _write(pickled: bytes) -> None:
    """Runs in a worker, perhaps more than once."""
    shard: Shard = pickle.loads(pickled)
    if shard.table() is None:
        try:
            shards.write(shard)
        except InputError as error:  # Beam would try it again and again
            shard.fail([str(error)])


@contextlib.contextmanager
def _watching(missing: Sequence[Shard], done: Callable[[Shard], None]) -> Iterator[None]:
    """Call `done` with each shard that turns up, until all have, or the block raises or was over for a while."""
    waiting, ended = list(missing), threading.Event()

    def look() -> None:
        for shard in list(waiting):
            if shard.table() is not None or shard.failed():
                waiting.remove(shard)
                done(shard)

    def keep_looking() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            look()

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    look()
    for _ in range(SECONDS_OF_OLD_NEWS):
        if not waiting:
            break
        time.sleep(1)
        look()
