"""The network against its PyTorch twin, in one run: inference at three sizes, and a training step.

    python benchmarks/network.py [--json results.json] [--cases 288p 1080p] [--rounds 7]

Inference is a stream: one frame at a time, batch 1, the state carried, tensors only. Training is one clip of 4 frames
of 256×256: forward, a stand-in for the matting loss (mean |alpha| + mean |foreground|), backward. The contenders take
turns, round after round, so that whatever else the machine does hits all of them; a time is the median round. Peak
memory is that of a process of its own for each contender, above what it needed before its first call (on a GPU, the
most that its allocator held).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """`contenders` are names of functions below; ratios are to the last of them."""

    name: str
    height: int
    width: int
    ratio: float
    contenders: tuple[str, ...]
    frames: int = 1
    iterations: int = 5


INFERENCE = ("jax", "torch eager", "torch frozen")
CASES = {
    case.name: case
    for case in (
        Case("288p", 288, 512, 1.0, INFERENCE, iterations=10),
        Case("1080p", 1080, 1920, 0.25, INFERENCE),
        Case("2160p", 2160, 3840, 0.125, INFERENCE, iterations=3),
        Case("train", 256, 256, 1.0, ("jax", "torch eager"), frames=4, iterations=2),
    )
}


@dataclass(frozen=True)
class Result:
    case: str
    contender: str
    milliseconds: float
    frames_per_second: float
    ratio: float
    compile_seconds: float
    peak_megabytes: float


def jax_contender(case: Case, variant: str) -> tuple[Callable[[], Any], float]:
    """A call that runs one iteration to its end, and the seconds that compiling took."""
    import jax
    import jax.numpy as jnp

    from rvm_jax.model.network import MattingNetwork

    network = MattingNetwork(variant)
    # Weights of any value cost the same; running statistics of mean 0 and variance 1 keep activations ordinary.
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 1, 32, 32, 3)))
    pixels = np.random.default_rng(0).random((1, case.frames, case.height, case.width, 3), np.float32)
    frames = jnp.asarray(pixels if case.frames > 1 else pixels[:, 0])
    start = time.perf_counter()
    if case.name == "train":

        def loss(params: Any, frames: Any) -> Any:
            result, updated = network.apply(
                {**variables, "params": params}, frames, None, case.ratio, train=True, mutable=["batch_stats"]
            )
            return jnp.abs(result.alpha).mean() + jnp.abs(result.foreground).mean(), updated

        step = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(variables["params"], frames).compile()
        return lambda: jax.block_until_ready(step(variables["params"], frames)), time.perf_counter() - start

    state = network.initial_state(1, (case.height, case.width), case.ratio, frames.dtype)
    apply = jax.jit(lambda variables, frames, state: network.apply(variables, frames, state, case.ratio))
    step = apply.lower(variables, frames, state).compile()
    compile_seconds = time.perf_counter() - start

    def run() -> None:
        nonlocal state
        result = step(variables, frames, state)
        state = result.state
        jax.block_until_ready(result)

    return run, compile_seconds


def torch_contender(case: Case, variant: str, frozen: bool) -> tuple[Callable[[], Any], float]:
    import torch

    from rvm_jax.export.torch_network import MattingNetwork

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    network: Any = MattingNetwork(variant).to(device)
    pixels = np.random.default_rng(0).random((1, case.frames, 3, case.height, case.width), np.float32)
    frames = torch.tensor(pixels if case.frames > 1 else pixels[:, 0], device=device)

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if case.name == "train":
        network.train()

        def train() -> None:
            network.zero_grad()
            foreground, alpha, *_ = network(frames)
            (alpha.abs().mean() + foreground.abs().mean()).backward()
            finish()

        return train, 0.0

    network.eval()
    start = time.perf_counter()
    if frozen:
        network = torch.jit.freeze(torch.jit.script(network))
    state = [None] * 4

    def run() -> None:
        nonlocal state
        with torch.inference_mode():
            _, _, *state = network(frames, *state, case.ratio)
        finish()

    for _ in range(3):  # the first calls of a scripted network profile and compile it
        run()
    return run, time.perf_counter() - start if frozen else 0.0


def make(contender: str, case: Case, variant: str) -> tuple[Callable[[], Any], float]:
    if contender == "jax":
        return jax_contender(case, variant)
    return torch_contender(case, variant, frozen=contender == "torch frozen")


def peak_megabytes(contender: str, case: Case, variant: str) -> float:
    """Peak memory of one contender; run in a process of its own."""
    import torch

    if contender == "jax":
        import jax

        jax.numpy.zeros(1).block_until_ready()
    before = resident_peak()
    run, _ = make(contender, case, variant)
    for _ in range(3):
        run()
    if contender == "jax" and (stats := jax.devices()[0].memory_stats()):
        return stats["peak_bytes_in_use"] / 2**20
    if contender != "jax" and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_peak() - before


def resident_peak() -> float:
    """The most memory this process has held, in MB. Not getrusage's, which counts the parent's from before the exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def measure(case: Case, variant: str, rounds: int) -> list[Result]:
    made = {contender: make(contender, case, variant) for contender in case.contenders}
    times: dict[str, list[float]] = {contender: [] for contender in made}
    for _ in range(rounds):
        for contender, (run, _) in made.items():
            run()  # let the threads of the contender before come to rest
            start = time.perf_counter()
            for _ in range(case.iterations):
                run()
            times[contender].append((time.perf_counter() - start) / case.iterations)
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    results = []
    for contender, (_, compile_seconds) in made.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peak = pool.submit(peak_megabytes, contender, case, variant).result()
        seconds = medians[contender]
        ratio = seconds / medians[case.contenders[-1]]
        results.append(Result(case.name, contender, seconds * 1e3, case.frames / seconds, ratio, compile_seconds, peak))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--variant", default="mobilenetv3", choices=("mobilenetv3", "resnet50", "tiny"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    # On a GPU, JAX would otherwise take most of the memory at once and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    versions = f"JAX {jax.__version__}, PyTorch {torch.__version__}"
    print(f"{options.variant} on {jax.devices()[0].platform} ({where}), {versions}")
    print(f"{'case':<7}{'contender':<14}{'ms':>9}{'frames/s':>10}{'ratio':>7}{'compile s':>11}{'peak MB':>9}")
    results = []
    for name in options.cases:
        for r in measure(CASES[name], options.variant, options.rounds):
            results.append(r)
            print(
                f"{r.case:<7}{r.contender:<14}{r.milliseconds:>9.1f}{r.frames_per_second:>10.1f}{r.ratio:>7.2f}"
                f"{r.compile_seconds:>11.1f}{r.peak_megabytes:>9.0f}"
            )
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
