"""The network against PyTorch and ONNX Runtime, in one run: inference at four sizes, and a training step.

    python benchmarks/network.py [--json results.json] [--cases 288p 1080p] [--rounds 7] [--released FILE.onnx]

Inference is a stream: one frame at a time, batch 1, the state carried, tensors only; `432p×12` takes twelve frames at a
time. ONNX Runtime runs our export, and the file that the authors of RVM released where it is given. Training is one
clip of 4 frames of 256×256: forward, a stand-in for the matting loss (mean |alpha| + mean |foreground|), backward. The
contenders take turns, round after round, so that whatever else the machine does hits all of them; a time is the median
round. Peak memory is that of a process of its own for each contender, above what it needed before its first call (on a
GPU, the most that its allocator held).
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

# Python puts the folder of a script first, where `train` would be the benchmark and not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)


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


INFERENCE = (
    "jax",
    "jax, not folded",
    "onnxruntime",
    "onnxruntime, released",
    "torch eager",
    "torch channels_last",
    "torch compiled",
    "torch frozen",
)
CASES = {
    case.name: case
    for case in (
        Case("288p", 288, 512, 1.0, INFERENCE, iterations=10),
        Case("432p", 432, 768, 2 / 3, INFERENCE),
        Case("432p×12", 432, 768, 2 / 3, ("jax", "torch channels_last"), frames=12, iterations=1),
        Case("1080p", 1080, 1920, 0.25, INFERENCE),
        Case("2160p", 2160, 3840, 0.125, INFERENCE, iterations=3),
        Case("train", 256, 256, 1.0, ("jax", "torch channels_last", "torch eager"), frames=4, iterations=2),
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


def jax_contender(case: Case, variant: str, folded: bool) -> tuple[Callable[[], Any], float]:
    """A call that runs one iteration to its end, and the seconds that compiling took."""
    import jax
    import jax.numpy as jnp

    from rvm_jax.matte import Matte
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

    if folded:
        matte = Matte(network, variables).folded()
        network, variables = matte.network, matte.variables
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


def torch_contender(case: Case, variant: str, form: str) -> tuple[Callable[[], Any], float]:
    """`form` is one of eager, channels_last, compiled and frozen."""
    import torch

    from rvm_jax.export.torch_network import MattingNetwork

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    network: Any = MattingNetwork(variant).to(device)
    pixels = np.random.default_rng(0).random((1, case.frames, 3, case.height, case.width), np.float32)
    frames = torch.tensor(pixels if case.frames > 1 else pixels[:, 0], device=device)
    if form in ("channels_last", "compiled"):
        network = network.to(memory_format=torch.channels_last)
        if frames.ndim == 4:
            frames = frames.to(memory_format=torch.channels_last)

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
    if form == "frozen":
        network = torch.jit.freeze(torch.jit.script(network))
    if form == "compiled":
        network = torch.compile(network)
    state = [None] * 4

    def run() -> None:
        nonlocal state
        with torch.inference_mode():
            _, _, *state = network(frames, *state, case.ratio)
        finish()

    for _ in range(3):  # the first calls of a scripted or compiled network profile and compile it
        run()
    return run, time.perf_counter() - start if form in ("frozen", "compiled") else 0.0


def onnx_contender(case: Case, variant: str, released: Path | None) -> tuple[Callable[[], Any], float]:
    """On CPUs alone. `released` is a file to run; otherwise it is our export."""
    import onnxruntime

    start = time.perf_counter()
    session = onnxruntime.InferenceSession(
        exported(variant) if released is None else released, providers=["CPUExecutionProvider"]
    )
    seconds = time.perf_counter() - start
    frames = np.random.default_rng(0).random((1, 3, case.height, case.width), np.float32)
    ratio, state = np.array([case.ratio], np.float32), [np.zeros((1, 1, 1, 1), np.float32)] * 4

    def run() -> None:
        nonlocal state
        states = {f"r{number}i": array for number, array in enumerate(state, 1)}
        _, _, *state = session.run(None, {"src": frames, "downsample_ratio": ratio, **states})

    return run, seconds


def exported(variant: str) -> bytes:
    """Our ONNX file of a network with random weights."""
    import jax
    import jax.numpy as jnp

    from rvm_jax.export import onnx_network
    from rvm_jax.model.network import MattingNetwork
    from rvm_jax.model.variants import VARIANTS
    from rvm_jax.weights.files import Weights

    variables = jax.jit(MattingNetwork(variant).init)(jax.random.key(0), jnp.zeros((1, 1, 32, 32, 3)))
    weights = Weights(VARIANTS[variant], "deep_guided_filter", jax.device_get(variables))
    return bytes(onnx_network.build(weights).SerializeToString())


def make(contender: str, case: Case, variant: str, released: Path | None) -> tuple[Callable[[], Any], float]:
    if contender.startswith("jax"):
        return jax_contender(case, variant, folded=contender == "jax")
    if contender.startswith("onnxruntime"):
        return onnx_contender(case, variant, released if contender == "onnxruntime, released" else None)
    return torch_contender(case, variant, contender.removeprefix("torch "))


def peak_megabytes(contender: str, case: Case, variant: str, released: Path | None) -> float:
    """Peak memory of one contender; run in a process of its own."""
    import torch

    if contender.startswith("jax"):
        import jax

        jax.numpy.zeros(1).block_until_ready()
    before = resident_peak()
    run, _ = make(contender, case, variant, released)
    for _ in range(3):
        run()
    if contender.startswith("jax") and (stats := jax.devices()[0].memory_stats()):
        return stats["peak_bytes_in_use"] / 2**20
    if contender.startswith("torch") and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_peak() - before


def resident_peak() -> float:
    """The most memory this process has held, in MB. Not getrusage's, which counts the parent's from before the exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def measure(case: Case, variant: str, rounds: int, released: Path | None, left_out: set[str]) -> list[Result]:
    contenders = [one for one in case.contenders if one not in left_out]
    made = {contender: make(contender, case, variant, released) for contender in contenders}
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
            peak = pool.submit(peak_megabytes, contender, case, variant, released).result()
        seconds = medians[contender]
        ratio = seconds / medians[contenders[-1]]
        results.append(Result(case.name, contender, seconds * 1e3, case.frames / seconds, ratio, compile_seconds, peak))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--variant", default="mobilenetv3", choices=("mobilenetv3", "resnet50", "tiny"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--released", type=Path, help="the ONNX file that the authors of RVM released")
    parser.add_argument("--without", nargs="*", default=[], metavar="CONTENDER", help="such as 'torch compiled'")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    # On a GPU, JAX would otherwise take most of the memory at once and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    versions = f"JAX {jax.__version__}, PyTorch {torch.__version__}"
    print(f"{options.variant} on {jax.devices()[0].platform} ({where}), {versions}")
    left_out = {*options.without, *(() if options.released else ("onnxruntime, released",))}
    print(f"{'case':<9}{'contender':<23}{'ms':>9}{'frames/s':>10}{'ratio':>7}{'compile s':>11}{'peak MB':>9}")
    results = []
    for name in options.cases:
        for r in measure(CASES[name], options.variant, options.rounds, options.released, left_out):
            results.append(r)
            print(
                f"{r.case:<9}{r.contender:<23}{r.milliseconds:>9.1f}{r.frames_per_second:>10.1f}{r.ratio:>7.2f}"
                f"{r.compile_seconds:>11.1f}{r.peak_megabytes:>9.0f}"
            )
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
