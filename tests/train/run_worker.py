"""A process of a training run, for tests that kill it.

Arguments: short or long, OUT (a folder or a URL), DATA_DIR.
"""

import sys
from pathlib import Path

from tests.train import runs

length, out, data_dir = sys.argv[1:]
options = runs.options(out if "://" in out else Path(out), Path(data_dir))
runs.train(runs.LONG if length == "long" else runs.RECIPE, options)
