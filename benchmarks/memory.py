"""How much memory a training pass needs, against the length of its clips, with and without `remat`.

    python benchmarks/memory.py [--frames 15 50 100 200] [--size 512] [--json results.json]

A low-resolution matting pass on one clip, compiled for whatever device JAX has; the figures are what XLA says that the
program needs beside its arguments, which are 45 MB of weights and moments and 2 MB a frame. Nothing is run, so neither
the memory nor the time that they speak of is spent.
"""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

# Python puts the folder of a script first, where `train` would be the benchmark and not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)


def needed_megabytes(variant: str, frames: int, size: int, precision: str, remat: bool) -> float:
    import jax
    import jax.numpy as jnp

    from rvm_jax.model.network import MattingNetwork
    from train.device import optimizer, step

    dtype = jnp.bfloat16 if precision == "bfloat16" else None
    network = MattingNetwork(variant, dtype=dtype, remat=remat)
    state = jax.eval_shape(lambda key: step.joined(step.init(network, key)), jax.random.key(0))
    batch = {
        name: jax.ShapeDtypeStruct((1, frames, size, size, channels), jnp.uint8)
        for name, channels in (("foreground", 3), ("alpha", 1), ("background", 3))
    }
    run = jax.jit(partial(step.train_pass, network), donate_argnums=0)
    compiled: Any = run.lower(state, batch, dict.fromkeys(optimizer.GROUPS, 1e-4)).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[15, 50, 100, 200], metavar="T")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--variant", default="mobilenetv3", choices=("mobilenetv3", "resnet50", "tiny"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    device, where = jax.devices()[0], f"{options.variant}, 1 × T × {options.size} × {options.size}, {options.precision}"
    print(f"{where}, compiled for {device.platform} ({device.device_kind}), JAX {jax.__version__}\n")
    print("| T | MB | MB with remat | ratio |\n|---|---|---|---|")
    rows = []
    for frames in options.frames:
        kept, recomputed = (
            needed_megabytes(options.variant, frames, options.size, options.precision, remat) for remat in (False, True)
        )
        rows.append({"frames": frames, "megabytes": kept, "megabytes_with_remat": recomputed})
        print(f"| {frames} | {kept:.0f} | {recomputed:.0f} | {recomputed / kept:.2f} |", flush=True)
    if len(rows) > 1:
        print(f"\n{comparison(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def comparison(rows: list[dict[str, float]]) -> str:
    """In words: how the longest clips with remat compare to shorter ones without."""
    longest = rows[-1]
    for row in rows:
        if longest["megabytes_with_remat"] < row["megabytes"]:
            return f"T = {longest['frames']} with remat needs less than T = {row['frames']} without."
    return f"T = {longest['frames']} with remat needs more than any of these without."


if __name__ == "__main__":
    main()
