"""MODNet, BackgroundMattingV2 and U²-Net against ONNX Runtime with our export of the same network, in one run.

    python benchmarks/baselines.py [--json results.json] [--cases modnet u2netp] [--rounds 7]

One image at a time, tensors only, float32, at the sizes at which each was published. ONNX Runtime runs on CPUs alone.
The contenders take turns, round after round, so that whatever else the machine does hits all of them. Of each: the
median and the least round, and the least of all cores together, user and system. On a busy machine only the last is the
network's own, of ONNX Runtime with the turns that its threads spin while they wait. A ratio is that of the medians to
ONNX Runtime's. Weights are random: any cost the same.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Python puts the folder of a script first, where `train` would be the benchmark and not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)


class Case(NamedTuple):
    """A network, by the name that `rvm_jax.baselines.names` gives it, and the size of its images."""

    network: str
    height: int
    width: int


CASES = {
    "modnet": Case("modnet", 512, 512),
    "u2netp": Case("u2netp", 320, 320),
    "u2net": Case("u2net", 320, 320),
    "bgmv2-720p": Case("bgmv2_mobilenetv2", 720, 1280),
    "bgmv2-1080p": Case("bgmv2_resnet50", 1080, 1920),
    "small": Case("bgmv2_base_mobilenetv2", 64, 64),  # to see that it runs
}


def contenders(case: Case) -> dict[str, Callable[[], Any]]:
    """Of each a call that computes one image to its end, compiled."""
    import jax
    import jax.numpy as jnp
    import onnxruntime

    from rvm_jax.baselines.matte import BaselineMatte
    from rvm_jax.baselines.names import NETWORKS, entries
    from rvm_jax.export.baselines import graphs
    from rvm_jax.weights.names import to_variables

    network = NETWORKS[case.network]
    random = np.random.default_rng(0)
    arrays = {entry.name: start_value(entry, random) for entry in entries(network)}
    matte = BaselineMatte(network, to_variables(arrays, entries(network)))
    names = graphs.inputs_of(network)
    images = [random.random((1, case.height, case.width, 3), np.float32) for _ in names]

    made: dict[str, Callable[[], Any]] = {}
    for name, one in {"jax": matte.folded(), "jax, not folded": matte}.items():
        given, apply = [jnp.asarray(image) for image in images], jax.jit(one.network.apply)
        made[name] = lambda apply=apply, one=one, given=given: jax.block_until_ready(apply(one.variables, *given))
    model = graphs.build(network, matte.variables, (case.height, case.width)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {name: image.transpose(0, 3, 1, 2).copy() for name, image in zip(names, images, strict=True)}
    made["onnxruntime"] = lambda: session.run(None, feed)
    return made


def start_value(entry: Any, random: np.random.Generator) -> np.ndarray:
    """Of one entry: kernels that keep the size of what they see, BatchNorms that do nothing."""
    kind, shape = entry.path[-1], entry.torch_shape
    if entry.kernel:
        return (random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
    if kind == "count":
        return np.zeros((), np.int64)
    return np.full(shape, float(kind in ("scale", "var")), np.float32)


class Times(NamedTuple):
    """Of one contender, milliseconds for an image."""

    median: float
    least: float
    cores: float


def measure(case: Case, rounds: int) -> dict[str, Times]:
    """The times of each contender."""
    made = contenders(case)
    clocks = time.perf_counter, time.process_time
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in made}
    for run in made.values():
        run()  # compiles
    for _ in range(rounds):
        for name, run in made.items():
            run()  # let the threads of the contender before come to rest
            start = [clock() for clock in clocks]
            run()
            taken[name].append(tuple(1e3 * (clock() - before) for clock, before in zip(clocks, start, strict=True)))
    times = {}
    for name, each in taken.items():
        walls, cores = zip(*each, strict=True)
        times[name] = Times(statistics.median(walls), min(walls), min(cores))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    published = [name for name in CASES if name != "small"]
    parser.add_argument("--cases", nargs="+", choices=CASES, default=published, metavar="CASE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    from rvm_jax.host.memory import keep_freed_memory

    keep_freed_memory()  # as `rvm matte` does, and as early: without effect once JAX has threads

    import jax
    import onnxruntime

    versions = f"JAX {jax.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(f"{jax.devices()[0].platform}, {versions}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'case':<13}{'size':<11}{'contender':<17}{'ms':>9}{'least':>9}{'of cores':>9}{'ratio':>7}")
    results = []
    for name in options.cases:
        case = CASES[name]
        times = measure(case, options.rounds)
        for contender, one in times.items():
            ratio = one.median / times["onnxruntime"].median
            size = f"{case.width}x{case.height}"
            cells = f"{one.median:>9.1f}{one.least:>9.1f}{one.cores:>9.1f}{ratio:>7.2f}"
            print(f"{name:<13}{size:<11}{contender:<17}{cells}", flush=True)
            row = {"milliseconds": one.median, "least": one.least, "cores": one.cores, "ratio": ratio}
            results.append({"case": name, "contender": contender, **row})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
