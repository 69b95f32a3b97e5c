"""Matte each file of a folder, and tell of those that end in anything but a whole output or a line for the user.

FOLDER WEIGHTS. Each name is printed before its file is read, so that the last one is that of a crash or a hang.
"""

import signal
import sys
from pathlib import Path

from rvm_jax import load, matte_video
from rvm_jax.errors import InputError

SECONDS = 60

folder, weights = map(Path, sys.argv[1:])
network = load(weights)
out = folder / "out"
out.mkdir()
for path in sorted(folder.iterdir()):
    if path.is_dir():
        continue
    print(path.name, flush=True)
    signal.alarm(SECONDS)
    target = out / "matte.mp4"
    told = ""
    try:
        matte_video(path, target, weights=network)
    except InputError as error:
        told = str(error)
    assert "\n" not in told, told
    expected = [] if told else [target.name]
    left = sorted(one.name for one in out.iterdir())
    assert left == expected, left
    target.unlink(missing_ok=True)
signal.alarm(0)
print("done", flush=True)
