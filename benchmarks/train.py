"""One training iteration against the same iteration of the PyTorch twin, in one run.

    python benchmarks/train.py [--batch 4 --frames 15 --size 512 --precision bfloat16] [--remat] [--json results.json]

An iteration is a low-resolution matting pass and a segmentation pass over a video batch, each of them uint8 batches on
the device, composited there, forward, losses, backward, and Adam. PyTorch is eager, under autocast for bfloat16. Both
begin with the same weights, and have to find the same losses before anything is timed. Then they take turns, round
after round; a time is the median round. Frames are those of both passes. Peak memory is that of a process of its own
for each, above what it needed before its first call (on a GPU, the most that its allocator held).

Without options, a GPU runs 4 clips of 15 frames of 512×512 in bfloat16, and a CPU 1 clip of 4 frames of 256×256 in
float32.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Python puts the folder of a script first, where `train` would be this file and not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

CONTENDERS = ("jax", "torch eager")
RATE = 1e-4
SAME = {"float32": 1e-3, "bfloat16": 5e-2}
"""How much the first losses may differ, of their size."""


@dataclass(frozen=True)
class Iteration:
    variant: str
    batch: int
    frames: int
    size: int
    precision: str
    remat: bool


@dataclass(frozen=True)
class Contender:
    """`run` does an iteration to its end; `losses` are those of the two passes with the first weights."""

    run: Callable[[], Any]
    losses: tuple[float, float]
    compile_seconds: float = field(default=0.0)


def batches(it: Iteration) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A batch of matting and one of segmentation, `[B, T, S, S, C]`."""
    rng = np.random.default_rng(0)

    def pictures(channels: int) -> np.ndarray:
        return rng.integers(0, 256, (it.batch, it.frames, it.size, it.size, channels), np.uint8)

    matting = {"foreground": pictures(3), "alpha": pictures(1), "background": pictures(3)}
    return matting, {"image": pictures(3), "mask": pictures(1) >= 128}


def first_variables(variant: str) -> Any:
    import jax
    import jax.numpy as jnp

    from rvm_jax.model.network import MattingNetwork

    return jax.jit(MattingNetwork(variant).init)(jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))


class Programs(NamedTuple):
    """The two passes of an iteration, compiled, and what they are given. `state` makes a first one."""

    compiled: tuple[Any, Any]
    batches: tuple[Any, Any]
    rates: Mapping[str, Any]
    state: Callable[[], Any]


def training_programs(it: Iteration) -> Programs:
    from functools import partial

    import jax
    import jax.numpy as jnp

    from rvm_jax.model.network import MattingNetwork
    from train.device import optimizer, step

    network = MattingNetwork(it.variant, dtype=jnp.bfloat16 if it.precision == "bfloat16" else None, remat=it.remat)
    first = jax.device_get(first_variables(it.variant))

    def state() -> Any:
        # An iteration takes it as its own.
        return step.joined(step.from_variables(jax.device_put(first, may_alias=False)))

    on_device = jax.device_put(batches(it))
    rates = {group: jnp.float32(RATE) for group in optimizer.GROUPS}
    train = jax.jit(partial(step.train_pass, network), donate_argnums=0)
    lowered = [train.lower(state(), batch, rates) for batch in on_device]
    with ThreadPoolExecutor(len(lowered)) as pool:  # as `rvm train` compiles: several at a time
        matting, segmentation = pool.map(lambda program: program.compile(), lowered)
    return Programs((matting, segmentation), on_device, rates, state)


def jax_contender(it: Iteration) -> Contender:
    import jax
    import jax.numpy as jnp

    start = time.perf_counter()
    programs = training_programs(it)
    compile_seconds = time.perf_counter() - start
    state = programs.state()

    def iteration(rates: Mapping[str, Any]) -> tuple[float, float]:
        nonlocal state
        losses = []
        for program, batch in zip(programs.compiled, programs.batches, strict=True):
            state, metrics = program(state, batch, rates)
            losses.append(metrics["total"])
        first, second = jax.block_until_ready((losses, state))[0]
        return float(first), float(second)

    still = {group: jnp.float32(0) for group in programs.rates}
    return Contender(lambda: iteration(programs.rates), iteration(still), compile_seconds)


def torch_contender(it: Iteration, *, channels_last: bool = False, compiled: bool = False) -> Contender:
    import jax
    import torch
    import torch.nn.functional as F

    from rvm_jax.export.torch_network import MattingNetwork
    from rvm_jax.model.variants import VARIANTS
    from rvm_jax.weights.names import entries, to_state_dict

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: Any = MattingNetwork(it.variant)
    weights = to_state_dict(jax.device_get(first_variables(it.variant)), entries(VARIANTS[it.variant]))
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    network = network.to(device, memory_format=torch.channels_last if channels_last else None).train()
    call = torch.compile(network) if compiled else network
    # A parameter without a gradient, like those of the other head, is left alone with its moments.
    adam = torch.optim.Adam(network.parameters(), lr=RATE)
    matting, segmentation = (
        {name: torch.tensor(x, device=device).movedim(-1, 2).contiguous() for name, x in batch.items()}
        for batch in batches(it)
    )  # [B, T, C, S, S]
    autocast = torch.autocast(device, torch.bfloat16, enabled=it.precision == "bfloat16")

    def matting_pass(call: Any) -> Any:
        foreground, alpha, background = (matting[name] / 255 for name in ("foreground", "alpha", "background"))
        with autocast:
            predicted, matte, *_ = call(foreground * alpha + background * (1 - alpha))
        return torch_matting_loss(predicted.float(), matte.float(), foreground, alpha)

    def segmentation_pass(call: Any) -> Any:
        with autocast:
            logits, *_ = call(segmentation["image"] / 255, segmentation_pass=True)
        return F.binary_cross_entropy_with_logits(logits.float(), segmentation["mask"].float())

    def run() -> None:
        for loss in (matting_pass, segmentation_pass):
            adam.zero_grad()
            loss(call).backward()
            adam.step()
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad():
        losses = float(matting_pass(network)), float(segmentation_pass(network))
    return Contender(run, losses)


def torch_matting_loss(foreground: Any, alpha: Any, true_foreground: Any, true_alpha: Any) -> Any:
    """The matting loss on clips `[B, T, C, H, W]`, in PyTorch."""
    visible = true_alpha > 0

    def pair(prediction: Any, truth: Any) -> Any:
        loss = (prediction - truth).abs().mean()
        if truth.shape[1] > 1:
            loss = loss + 5 * (prediction.diff(dim=1) - truth.diff(dim=1)).square().mean()
        return loss

    laplacian = torch_laplacian_loss(alpha.flatten(0, 1), true_alpha.flatten(0, 1))
    return pair(alpha, true_alpha) + laplacian + pair(foreground * visible, true_foreground * visible)


def torch_laplacian_loss(prediction: Any, truth: Any) -> Any:
    """Of pictures `[N, 1, H, W]`."""
    import torch
    import torch.nn.functional as F

    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=truth.device) / 16
    kernel = weights[:, None] * weights

    def blur(x: Any) -> Any:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel[None, None])

    def spread(x: Any) -> Any:
        larger = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        larger[:, :, ::2, ::2] = 4 * x
        return larger

    loss = prediction.new_zeros(())
    for level in range(5):
        even = [size // 2 * 2 for size in truth.shape[2:]]
        prediction, truth = (x[:, :, : even[0], : even[1]] for x in (prediction, truth))
        smaller = [blur(x)[:, :, ::2, ::2] for x in (prediction, truth)]
        details = [x - blur(spread(small)) for x, small in zip((prediction, truth), smaller, strict=True)]
        loss = loss + 2**level * (details[0] - details[1]).abs().mean() / 5
        prediction, truth = smaller
    return loss


def make(contender: str, it: Iteration) -> Contender:
    return jax_contender(it) if contender == "jax" else torch_contender(it)


def peak_megabytes(contender: str, it: Iteration) -> float:
    """Peak memory of one contender; run in a process of its own."""
    import jax
    import torch

    from benchmarks.network import resident_peak

    first_variables(it.variant)
    before = resident_peak()
    made = make(contender, it)
    for _ in range(3):
        made.run()
    if contender == "jax" and (stats := jax.devices()[0].memory_stats()):
        return stats["peak_bytes_in_use"] / 2**20
    if contender != "jax" and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_peak() - before


def check(made: Mapping[str, Contender], precision: str) -> None:
    """That all contenders compute the same thing."""
    found = {name: contender.losses for name, contender in made.items()}
    if not all(np.allclose(losses, found["jax"], rtol=SAME[precision], atol=0) for losses in found.values()):
        sys.exit(f"the losses of matting and segmentation differ, so there is nothing to compare: {found}")


def measure(it: Iteration, rounds: int) -> list[dict[str, Any]]:
    made = {contender: make(contender, it) for contender in CONTENDERS}
    check(made, it.precision)
    times: dict[str, list[float]] = {contender: [] for contender in made}
    for _ in range(rounds):
        for contender, one in made.items():
            one.run()  # let the threads of the contender before come to rest
            start = time.perf_counter()
            for _ in range(2):
                one.run()
            times[contender].append((time.perf_counter() - start) / 2)
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    results = []
    for contender, seconds in medians.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peak = pool.submit(peak_megabytes, contender, it).result()
        results.append(
            {
                "contender": contender,
                "milliseconds": seconds * 1e3,
                "frames_per_second": 2 * it.batch * it.frames / seconds,
                "ratio": seconds / medians[CONTENDERS[-1]],
                "compile_seconds": made[contender].compile_seconds,
                "peak_megabytes": peak,
                "losses": made[contender].losses,
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="mobilenetv3", choices=("mobilenetv3", "resnet50", "tiny"))
    parser.add_argument("--batch", type=int, help="clips")
    parser.add_argument("--frames", type=int, help="frames of a clip")
    parser.add_argument("--size", type=int, help="side of a frame")
    parser.add_argument("--precision", choices=tuple(SAME))
    parser.add_argument("--remat", action="store_true", help="JAX trains in less memory")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    # On a GPU, JAX would otherwise take most of the memory at once and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import torch

    gpu = jax.devices()[0].platform == "gpu"
    if gpu != torch.cuda.is_available():
        sys.exit("only one of JAX and PyTorch sees a GPU: install both for it, or hide it from both")
    batch, frames, size, precision = (4, 15, 512, "bfloat16") if gpu else (1, 4, 256, "float32")
    it = Iteration(
        options.variant,
        options.batch or batch,
        options.frames or frames,
        options.size or size,
        options.precision or precision,
        options.remat,
    )
    where = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    print(f"{where}, JAX {jax.__version__}, PyTorch {torch.__version__}; {asdict(it)}")
    if not gpu:
        print("No GPU is at hand: the figures of one are still to be measured, by this script as it is.")
    print(f"{'contender':<14}{'ms':>9}{'frames/s':>10}{'ratio':>7}{'compile s':>11}{'peak MB':>9}")
    results = measure(it, options.rounds)
    for r in results:
        print(
            f"{r['contender']:<14}{r['milliseconds']:>9.1f}{r['frames_per_second']:>10.1f}{r['ratio']:>7.2f}"
            f"{r['compile_seconds']:>11.1f}{r['peak_megabytes']:>9.0f}"
        )
    if options.json:
        options.json.write_text(json.dumps({**asdict(it), "results": results}, indent=1))


if __name__ == "__main__":
    main()
