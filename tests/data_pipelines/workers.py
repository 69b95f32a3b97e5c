"""What worker processes run in tests of preparing: functions of a module that they can import, faults included."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from data_pipelines.archives import decode
from data_pipelines.archives.clip import Record
from rvm_jax.errors import InputError
from tests.data_pipelines.fake_archives import stamped, stamped_alpha


def encode(numbers: Sequence[int], *, log: Path | None = None) -> Iterator[Record]:
    """A record for each number; notes in `log` that it was asked to."""
    if log is not None:
        with log.open("a") as file:
            file.write(f"{numbers[0]}\n")
    for number in numbers:
        yield {
            "foreground": decode.encode_jpeg(Image.fromarray(stamped(number))),
            "alpha": decode.encode_png(Image.fromarray(stamped_alpha(number))),
        }


def encode_slowly(started: Path) -> Iterator[Record]:
    """Records without end."""
    started.touch()
    while True:
        yield from encode([1])
        time.sleep(0.02)


def encode_sizes(sizes: Sequence[tuple[int, int]]) -> Iterator[Record]:
    for size in sizes:
        yield {"image": decode.encode_jpeg(Image.new("RGB", size))}


def fail(message: str) -> Iterator[Record]:
    yield from encode([1])
    raise InputError(message)


def encode_too_wide() -> Iterator[Record]:
    """JPEG cannot be as wide; Pillow says so with an OSError."""
    yield {"image": decode.encode_jpeg(Image.new("RGB", (70_000, 1)))}


def end_process() -> Iterator[Record]:
    """What a system does that has no memory left."""
    yield from encode([1])
    os.kill(os.getpid(), signal.SIGKILL)


def encode_modules() -> Iterator[Record]:
    """Fails if a worker process has imported what is slow."""
    slow = sorted({"tensorflow", "tensorflow_datasets", "jax"} & sys.modules.keys())
    if slow:
        raise InputError(f"a worker process has imported {slow}")
    yield from encode([1])


def encode_and_tell_who(number: int, *, log: Path) -> Iterator[Record]:
    """A record, as slow as a worker that others can keep up with; a file in `log` is named after the process."""
    (log / str(os.getpid())).touch()
    time.sleep(0.5)
    yield from encode([number])
