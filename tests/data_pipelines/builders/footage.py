"""The dataset of one's own footage that tests of building make, and a process in which it is made."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data_pipelines.builders.clip_builder import FolderConfig
from data_pipelines.builders.footage.footage_dataset_builder import Builder
from tests.data_pipelines.building import numbers, opened


def builder(folder: Path, data: Path, **options) -> Builder:
    return Builder(config=FolderConfig(name="mine", folder=folder), data_dir=data, **options)


def left(data: Path) -> list[str]:
    """What lies beside the versions of the dataset, and these."""
    return sorted(path.name for path in (data / "footage" / "mine").iterdir())


def contents(data: Path) -> list[tuple[int, int]]:
    """What tells a shard from one that was written again, for all of them, whatever they are called."""
    stats = [path.stat() for path in data.rglob("*.array_record*") if path.is_file()]
    return sorted((stat.st_ino, stat.st_mtime_ns) for stat in stats)


def assert_whole(data: Path) -> None:
    built = builder(Path("nowhere"), data)
    assert numbers(opened(built, "train"), "foreground") == {
        "footage/mine/clip10": [10, 11, 12, 13],
        "footage/mine/clip20": [20, 21, 22, 23],
    }
    assert numbers(opened(built, "validation"), "alpha") == {"footage/mine/clip0": [0, 1, 2, 3]}
    assert left(data) == ["1.0.0"]


BUILD = """
import sys, time
from pathlib import Path

folder, data = map(Path, sys.argv[1:3])

def slow(path, target):
    rename(path, target)
    if path.suffix == ".array_record" and Path(target).name.count("-of-"):
        (data / "moving").touch()
        time.sleep(60)

if __name__ == "__main__":  # workers come here too, and need nothing of this
    from data_pipelines.builders.clip_builder import FolderConfig
    from data_pipelines.builders.footage.footage_dataset_builder import Builder
    from tests.data_pipelines.building import build
    if sys.argv[3] != "plain":
        rename, Path.rename = Path.rename, slow
    build(Builder(config=FolderConfig(name="mine", folder=folder), data_dir=data, anew=sys.argv[3] == "anew"))
"""


def start(folder: Path, data: Path, how: str) -> subprocess.Popen[bytes]:
    """A process that builds the dataset: "first" or "anew", and waits amid its last moves; or "plain"."""
    script = data.parent / "build.py"
    script.write_text(BUILD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, script, folder, data, how], env=environment, stderr=subprocess.DEVNULL)


def wait_for(process: subprocess.Popen[bytes], condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def moving(folder: Path, data: Path, how: str = "first") -> Iterator[None]:
    """A process that has moved one of the shards to the dataset, and is killed at the end of the block."""
    process = start(folder, data, how)
    try:
        wait_for(process, (data / "moving").exists)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
