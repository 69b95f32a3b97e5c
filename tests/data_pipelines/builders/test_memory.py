"""How much memory it takes to prepare the largest clips."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.archives import decode
from tests.data_pipelines import fake_archives

PREPARE = """
import sys
from functools import partial
from pathlib import Path
from data_pipelines.builders import shards
from data_pipelines.archives.clip import ArchiveClip
from data_pipelines.archives.folders import matting_records

foreground, alpha, short_side, file = map(Path, sys.argv[1:])
encode = partial(matting_records, foreground, alpha, short_side=int(short_side.name))
shard = shards.Shard(file, [ArchiveClip("clip", (foreground, alpha), encode)])
shards.write(shard)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(shard.table()["length"][0], peak.split()[1])
"""
HEIGHT, WIDTH = 2160, 3840


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_a_worker_prepares_a_4k_clip_in_less_than_4_gb(tmp_path, reader):
    """With decord the longest clip that it is given, since it may decode all of it ahead; with PyAV a longer one."""
    longest = decode.DECORD_BUDGET // (HEIGHT * WIDTH * 3)
    count = longest if reader == "decord" else longest + 8
    foreground = fake_archives.write_video(
        tmp_path / "fgr.mp4", (fake_archives.stamped(i, HEIGHT, WIDTH) for i in range(count)), "hevc_fast"
    )
    alpha = fake_archives.write_video(
        tmp_path / "pha.mp4", (fake_archives.stamped_alpha(i, HEIGHT, WIDTH) for i in range(count)), "hevc_fast"
    )
    assert decode._suits_decord(foreground, decode._header(foreground)) == (reader == "decord")
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, foreground, alpha, "1080", tmp_path / "clip.array_record"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    frames, kilobytes = map(int, done.stdout.split())
    assert frames == count
    assert kilobytes < 4 * 2**20
    print(f"{reader}: {count} frames, {kilobytes / 2**20:.2f} GB")
