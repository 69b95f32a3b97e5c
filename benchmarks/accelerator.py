"""Everything that an accelerator is asked for, in one command of at most eight minutes.

    python benchmarks/accelerator.py OUT [--parts training-mobilenetv3 ...] [--small]

It needs only JAX, Flax, Optax and PyTorch. Every part is a process of its own with a time limit, so one that hangs or
fails costs no other; after each, its table is printed and OUT/results.json written. OUT/profile is for TensorBoard or
Perfetto.

- `reference`: outputs in float32, products in full, against those of the released network;
- `training-*`: an iteration as in `train.py`, 4 × 15 × 512² in bfloat16, against PyTorch channels_last under autocast,
  eager and compiled;
- `inference`: HD and 4K, uint8 frames in and uint8 mattes out, against TorchScript in half precision, channels_last;
- `profile`: the kernels of that iteration which take the most time;
- `memory`: of T = 15 and T = 50, and of the high-resolution pass, with remat and without, in time as well;
- `repeatable-*`: whether one program twice, and one compiled twice, give the same bits; with XLA's flag and without.

`--small` is for trying the script itself, on any machine: a tiny network, whose figures mean nothing.
"""

import argparse
import gzip
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# Python puts the folder of a script first, where `train` would be the benchmark and not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

SECONDS = 460
"""Of all parts together. Each has as much as its own limit, or what is left."""

PATIENCE = 4
"""So many times as long a part may take with `--small`: processors compile for longer, and may be busy."""

LIMITS = {
    "reference": 45,
    "training-mobilenetv3": 120,
    "inference": 80,
    "profile": 50,
    "repeatable-mobilenetv3": 90,
    "training-resnet50": 120,
    "memory": 80,
    "repeatable-mobilenetv3-flag": 90,
    "repeatable-resnet50": 90,
    "repeatable-resnet50-flag": 90,
}
"""Of each part in seconds, the most wanted first. What is left out can be asked for alone, with `--parts`."""

FLAG = "--xla_gpu_exclude_nondeterministic_ops=true"

Rows = list[dict[str, Any]]


def do_without_tyro() -> None:
    """Recipes are annotated for the command line by tyro, which machines with accelerators may lack: here unread."""
    try:
        import tyro  # noqa: F401
    except ImportError:
        conf: Any = types.ModuleType("tyro.conf")
        conf.arg = lambda **_: None
        sys.modules |= {"tyro": types.ModuleType("tyro"), "tyro.conf": conf}


def clock(run: Callable[[], Any], rounds: int) -> float:
    """Milliseconds of the median round; the first is not counted."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def reference(out: Path, small: bool) -> Rows:
    """The greatest difference of alpha, foreground or logits, and how many times the rounding of float32 that is."""
    import jax

    from rvm_jax.model.network import MattingNetwork
    from rvm_jax.model.variants import VARIANTS
    from rvm_jax.weights.names import entries, to_variables
    from tests.reference import FOLDER
    from tests.reference.recipe import state_dict, video

    jax.config.update("jax_default_matmul_precision", "highest")
    rows = []
    cases = json.loads((FOLDER / "forward_cases.json").read_text())
    for case in cases[:1] if small else cases:
        weights = state_dict(json.loads((FOLDER / f"{case['variant']}.keys.json").read_text()))
        variables = jax.device_put(to_variables(weights, entries(VARIANTS[case["variant"]], case["refiner"])))
        network = MattingNetwork(case["variant"], case["refiner"])
        apply = jax.jit(network.apply, static_argnames=("downsample_ratio", "segmentation"))
        frames = np.asarray(video(case["seed"], *case["shape"]), np.float32)
        options = {"downsample_ratio": case["downsample_ratio"], "segmentation": case["segmentation_pass"]}
        state, start, found = None, 0, []
        for length in case["chunks"]:
            *arrays, state = apply(variables, frames[:, start : start + length], state, **options)
            start += length
            found.append(arrays)
        expected = np.load(FOLDER / f"forward_{case['name']}.npz")
        names = ("seg",) if case["segmentation_pass"] else ("fgr", "pha")
        worst = max(
            float(np.abs(np.concatenate(parts, 1) - expected[name]).max())
            for name, parts in zip(names, zip(*found, strict=True), strict=True)
        )
        rows.append({"case": case["name"], "difference": worst, "of float32's noise": worst / case["float32_noise"]})
    return rows


def iteration(variant: str, small: bool, **changed: Any) -> Any:
    from benchmarks.train import Iteration

    shape = {"batch": 1, "frames": 2, "size": 64} if small else {"batch": 4, "frames": 15, "size": 512}
    network = {"variant": "tiny" if small else variant, "precision": "float32" if small else "bfloat16", "remat": False}
    return Iteration(**{**network, **shape, **changed})


def training(variant: str, out: Path, small: bool) -> Rows:
    import torch

    from benchmarks.train import jax_contender, torch_contender

    torch.backends.cudnn.benchmark = True
    it = iteration(variant, small)
    makers = {
        "jax": lambda: jax_contender(it),
        "torch channels_last": lambda: torch_contender(it, channels_last=True),
        "torch channels_last, compiled": lambda: torch_contender(it, channels_last=True, compiled=True),
    }
    rows = []
    for name, maker in makers.items():
        if small and "compiled" in name:
            continue
        start = time.perf_counter()
        made = maker()
        made.run()
        ready = time.perf_counter() - start
        milliseconds = clock(made.run, 1 if small else 5)
        frames = 2 * it.batch * it.frames / milliseconds * 1e3
        rows.append({"contender": name, "ms": milliseconds, "frames/s": frames, "ready after s": ready})
        save(out, f"training-{variant}", rows)
        del made
    return rows


def inference(out: Path, small: bool) -> Rows:
    """Milliseconds a frame of a stream, in pieces of as many frames as `rvm matte` takes."""
    import jax
    import jax.numpy as jnp
    import torch

    from rvm_jax.export.torch_network import MattingNetwork as TorchNetwork
    from rvm_jax.matte import Matte
    from rvm_jax.model.network import MattingNetwork

    variant = "tiny" if small else "mobilenetv3"
    sizes = {"HD": (1080, 1920, 0.25), "4K": (2160, 3840, 0.125)}
    if small:
        sizes = {"96×128": (96, 128, 0.5)}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    half = torch.float16 if device == "cuda" else torch.float32
    variables = jax.jit(MattingNetwork(variant).init)(jax.random.key(0), jnp.zeros((1, 1, 32, 32, 3)))
    rows = []
    for label, (height, width, ratio) in sizes.items():
        for count in (1,) if small else (1, 8):
            pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
            for dtype in ("float32", "bfloat16", "float16"):
                matte = Matte(MattingNetwork(variant, dtype=dtype), variables).folded()
                run = jax_stream(matte, pixels, ratio)
                rows.append({"size": label, "frames": count, "contender": f"jax {dtype}", "ms": clock(run, 3) / count})
            for name in ("TorchScript half", "channels_last half"):
                network: Any = TorchNetwork(variant).eval().to(device, half)
                if name.startswith("Torch"):
                    network = torch.jit.freeze(torch.jit.script(network))
                else:
                    network = network.to(memory_format=torch.channels_last)
                run = torch_stream(network, pixels, ratio, device, half)
                for _ in range(2):  # scripts are compiled in the first calls
                    run()
                rows.append({"size": label, "frames": count, "contender": name, "ms": clock(run, 3) / count})
            save(out, "inference", rows)
    return rows


def jax_stream(matte: Any, pixels: np.ndarray, ratio: float) -> Callable[[], None]:
    import jax

    from rvm_jax.model.network import MattingNetwork

    state = matte.network.initial_state(1, pixels.shape[1:3], ratio, np.float32)

    @partial(jax.jit, static_argnums=0, donate_argnums=3)
    def step(network: MattingNetwork, variables: Any, pixels: Any, state: Any) -> Any:
        foreground, alpha, state = network.apply(variables, pixels[None].astype(np.float32) / 255, state, ratio)
        return tuple((x * 255).round().astype(np.uint8) for x in (foreground, alpha)), state

    def run() -> None:
        nonlocal state
        made, state = step(matte.network, matte.variables, jax.device_put(pixels), state)
        jax.device_get(made)

    return run


def torch_stream(network: Any, pixels: np.ndarray, ratio: float, device: str, dtype: Any) -> Callable[[], None]:
    import torch

    state: list[Any] = [None] * 4

    def run() -> None:
        nonlocal state
        with torch.inference_mode():
            frames = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)[None].to(dtype) / 255
            foreground, alpha, *state = network(frames, *state, ratio)
            for made in (foreground, alpha):
                (made * 255).round().to(torch.uint8).cpu()

    return run


def profile(out: Path, small: bool) -> Rows:
    import jax

    from benchmarks.train import jax_contender

    made = jax_contender(iteration("mobilenetv3", small))
    made.run()
    with jax.profiler.trace(str(out / "profile")):
        for _ in range(3):
            made.run()
    trace = max((out / "profile").rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    return kernels(json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"])[:25]


def kernels(events: list[dict[str, Any]]) -> Rows:
    """What the device did for how long, the longest first; where there is none, what the host did."""
    processes = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    devices = {pid for pid, name in processes.items() if name.startswith("/device:")} or set(processes)
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    spent, calls = Counter[str](), Counter[str]()
    for event in events:
        thread = names.get((event.get("pid"), event.get("tid")), "")
        if (
            event.get("ph") == "X"
            and event["pid"] in devices
            and not thread.startswith(("XLA ", "Steps", "Framework", "Source"))
        ):
            spent[event["name"]] += event["dur"]
            calls[event["name"]] += 1
    total = sum(spent.values())
    return [
        {"kernel": name, "ms": micro / 1e3, "calls": calls[name], "share": micro / total}
        for name, micro in spent.most_common()
    ]


def memory(out: Path, small: bool) -> Rows:
    """One clip through a matting pass and Adam: what the program needs beside its arguments, and how long it takes."""
    import jax
    import jax.numpy as jnp

    from rvm_jax.model.network import MattingNetwork
    from train.device import optimizer, step

    shapes = {"T = 15, 512²": (15, 512, 1.0), "T = 50, 512²": (50, 512, 1.0), "high, T = 6, 1536²": (6, 1536, 0.25)}
    if small:
        shapes = {"T = 2, 64²": (2, 64, 1.0)}
    rows = []
    for label, (frames, size, ratio) in shapes.items():
        for remat in (False, True):
            dtype = None if small else jnp.bfloat16
            network = MattingNetwork("tiny" if small else "mobilenetv3", dtype=dtype, remat=remat)
            state = step.joined(step.init(network, jax.random.key(0)))
            rng = np.random.default_rng(0)
            batch = {
                name: jax.device_put(rng.integers(0, 256, (1, frames, size, size, channels), np.uint8))
                for name, channels in (("foreground", 3), ("alpha", 1), ("background", 3))
            }
            rates = {group: jnp.float32(1e-4) for group in optimizer.GROUPS}
            train = jax.jit(partial(step.train_pass, network, downsample_ratio=ratio), donate_argnums=0)
            compiled: Any = train.lower(state, batch, rates).compile()
            megabytes = compiled.memory_analysis().temp_size_in_bytes / 2**20
            row: dict[str, Any] = {"pass": label, "remat": remat, "MB": megabytes, "ms": float("nan")}
            rows.append(row)
            save(out, "memory", rows)

            try:
                row["ms"] = clock(steps(compiled, state, batch, rates), 1 if small else 3)
            except jax.errors.JaxRuntimeError as error:  # it does not fit
                row["failed"] = str(error).splitlines()[0][:120]
    return rows


def steps(compiled: Any, state: Any, batch: Any, rates: Any) -> Callable[[], None]:
    import jax

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, batch, rates))

    return run


def repeatable(variant: str, out: Path, small: bool) -> Rows:
    """Three iterations with one program, with the same program again, and with one that another process compiles."""
    programs = repeatable_programs(variant, small)
    found, again = (digest(programs) for _ in range(2))
    command = [sys.executable, "-W", "ignore", __file__, str(out), "--digest", variant, *["--small"] * small]
    anew = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    row = {"variant": "tiny" if small else variant, "flag": FLAG in os.environ.get("XLA_FLAGS", ""), "result": found}
    return [{**row, "same program": again == found, "compiled anew": anew == found}]


def repeatable_programs(variant: str, small: bool) -> Any:
    import jax

    from benchmarks.train import training_programs

    jax.config.update("jax_enable_compilation_cache", False)
    return training_programs(iteration(variant, small, batch=1, frames=2 if small else 4, size=64 if small else 256))


def digest(programs: Any) -> str:
    """Of the training state after three iterations."""
    import jax

    state = programs.state()
    for _ in range(3):
        for program, batch in zip(programs.compiled, programs.batches, strict=True):
            state, _ = program(state, batch, programs.rates)
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


PARTS: dict[str, Callable[[Path, bool], Rows]] = {
    "reference": reference,
    "training-mobilenetv3": partial(training, "mobilenetv3"),
    "training-resnet50": partial(training, "resnet50"),
    "inference": inference,
    "profile": profile,
    "memory": memory,
    "repeatable-mobilenetv3": partial(repeatable, "mobilenetv3"),
    "repeatable-resnet50": partial(repeatable, "resnet50"),
    "repeatable-mobilenetv3-flag": partial(repeatable, "mobilenetv3"),
    "repeatable-resnet50-flag": partial(repeatable, "resnet50"),
}


def save(out: Path, part: str, rows: Rows) -> None:
    """What a part has found so far, whole at any time."""
    unfinished = out / f"{part}.partial"
    unfinished.write_text(json.dumps(rows, indent=1))
    unfinished.replace(out / f"{part}.json")


def run_part(part: str, out: Path, small: bool, seconds: float) -> str:
    """How the part ended: "done", "failed", or "stopped" at its limit; its whole group of processes then ends."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(out / "compiled")
    flags = [environment.get("XLA_FLAGS", "")]
    flags += [FLAG] * part.endswith("-flag") + ["--xla_backend_optimization_level=0"] * small  # compiles in less time
    environment["XLA_FLAGS"] = " ".join(flags).strip()
    command = [sys.executable, "-W", "ignore", __file__, str(out), "--parts", part, "--here"]
    with (out / f"{part}.log").open("w") as log:
        process = subprocess.Popen(
            command + ["--small"] * small, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            return "done" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "stopped"


def table(rows: Rows) -> str:
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.get(head, "") for head in heads]
        lines.append(
            "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for what is found")
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS), metavar="PART")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try the script")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--digest", help=argparse.SUPPRESS)
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if options.digest:
        do_without_tyro()
        print(digest(repeatable_programs(options.digest, options.small)))
        return
    if options.here:
        (part,) = options.parts
        do_without_tyro()
        save(out, part, PARTS[part](out, options.small))
        return

    patience = PATIENCE if options.small else 1
    begin = time.monotonic()
    results: dict[str, Any] = {"versions": versions(), "parts": {}}
    print(results["versions"], flush=True)
    for part in options.parts:
        left = patience * SECONDS - (time.monotonic() - begin)
        path = out / f"{part}.json"
        path.unlink(missing_ok=True)
        start = time.monotonic()
        how = run_part(part, out, options.small, min(patience * LIMITS[part], left)) if left > 5 else "left out"
        rows = json.loads(path.read_text()) if path.exists() else []
        results["parts"][part] = {"how": how, "seconds": time.monotonic() - start, "rows": rows}
        print(f"\n{part}: {how}, {time.monotonic() - start:.0f} s\n\n{table(rows) if rows else ''}", flush=True)
        if how == "failed":
            print("\n".join((out / f"{part}.log").read_text().splitlines()[-5:]), flush=True)
        (out / "results.json").write_text(json.dumps(results, indent=1))
    sys.exit(any(part["how"] != "done" for part in results["parts"].values()))


def versions() -> str:
    """Asked of a process of its own, so that this one holds no accelerator."""
    ask = "import jax, torch; print(jax.devices()[0].device_kind, 'JAX', jax.__version__, 'PyTorch', torch.__version__)"
    command = [sys.executable, "-W", "ignore", "-c", ask]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
