"""A process of a run in a bucket that kills itself: run by `test_bucket_loop.py`.

Arguments: URL, DATA_DIR, the number of the change of the bucket at which it does, and before or after (the change).
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.killed_bucket import at_change
from tests.train import runs

url, data_dir, number, moment = sys.argv[1:]
with pytest.MonkeyPatch.context() as patched:
    at_change(patched, int(number), lambda: os.kill(os.getpid(), signal.SIGKILL), after=moment == "after")
    runs.train(runs.RECIPE, runs.options(url, Path(data_dir)))
