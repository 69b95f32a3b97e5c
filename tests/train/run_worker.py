"""A process of a training run, for tests that kill it or start several.

Arguments: short or long, OUT (a folder or a URL), DATA_DIR, and perhaps COORDINATOR ID COUNT.
"""

import sys
from pathlib import Path

from tests.train import runs
from train import loop

length, out, data_dir, *hosts = sys.argv[1:]
coordinator, number, count = (hosts[0], int(hosts[1]), int(hosts[2])) if hosts else (None, None, None)
options = runs.options(
    out if "://" in out else Path(out), Path(data_dir), coordinator=coordinator, process_id=number, process_count=count
)
loop.train(runs.LONG if length == "long" else runs.RECIPE, options)
