"""Training passes of the published recipes, compiled for accelerators that are not here: what fits, and what bounds it.

    python benchmarks/ahead.py h100:1 h100:8 v5e:4 v5e:16 [--passes low15 high …] [--variants mobilenetv3] [--json OUT]

No device is needed, only the compilers:

    pip install --no-deps jax-cuda13-plugin==V jax-cuda13-pjrt==V    # for GPUs: V is JAX's version; no CUDA libraries
    pip install "jax[tpu]"                                           # for TPUs: libtpu, 250 MB

An H100 takes a minute or two a pass, a TPU many, but for the program's text, which is there in half a minute: see
`benchmarks/RESULTS.md`. Nothing is tuned without the device, and nothing is timed: kernels, bytes, collectives and
memory are what the compiler made, and the bound is what they take at published rates. Where a pass does not fit, it is
compiled with --remat as well.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent
# Python puts the folder of a script first, where `train` would be the benchmark and not the package.
sys.path[0] = str(FOLDER.parent)

from benchmarks import hlo  # noqa: E402

GIGA = 1e9


class Chip(NamedTuple):
    """What is published of an accelerator, and what is assumed of its collectives.

    Attributes:
        platform: JAX's name of it.
        memory: GB.
        teraflops: In bfloat16.
        bandwidth: GB/s of its memory.
        link: GB/s that a chip sends to its neighbours.
        network: GB/s that a chip sends, once there are more than `near`.
        near: Chips that `link` joins.
        latency: Microseconds of a collective among two; it grows with their logarithm. Assumed.
        launch: Microseconds of a kernel at least. Assumed.
        topology: Of so many chips, as JAX writes it.
    """

    platform: str
    memory: float
    teraflops: float
    bandwidth: float
    link: float
    network: float
    near: int
    latency: float
    launch: float
    topology: dict[int, str]


_SQUARES = {4: "2x2", 16: "4x4", 64: "8x8", 256: "16x16"}
CHIPS = {
    # NVIDIA's data sheet of the H100 SXM, NVLink 4, and a 400 Gb/s card for each GPU
    "h100": Chip("cuda", 80, 989, 3350, 450, 50, 8, 5, 2, {1: "1x1x1", 8: "1x1x8", 64: "1x8x8", 256: "1x32x8"}),
    # cloud.google.com/tpu/docs
    "v5e": Chip("tpu", 16, 197, 819, 200, 200, 256, 1, 0, _SQUARES),
    "v5p": Chip("tpu", 95, 459, 2765, 600, 600, 8960, 1, 0, {4: "2x2x1", 16: "2x2x4", 64: "4x4x4", 256: "4x8x8"}),
    "v6e": Chip("tpu", 32, 918, 1640, 448, 448, 256, 1, 0, _SQUARES),
}
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 } runtime_version { major: 13 minor: 0 }
"""


class Pass(NamedTuple):
    """A pass of the published recipes: frames [clips, frames, size, size] on each chip."""

    stages: str
    frames: int
    size: int
    downsample_ratio: float = 1.0
    segmentation: bool = False


PASSES = {
    "low15": Pass("1", 15, 512),
    "low50": Pass("2", 50, 512),
    "low40": Pass("3, 4", 40, 512),
    "high": Pass("3, 4", 6, 2048, 0.25),
    "seg15": Pass("1", 15, 512, segmentation=True),
    "seg50": Pass("2", 50, 512, segmentation=True),
    "seg40": Pass("3, 4", 40, 512, segmentation=True),
}


class Row(NamedTuple):
    """A pass on each of so many chips. Bytes are GB, times milliseconds."""

    chip: str
    chips: int
    variant: str
    name: str
    clips: int
    remat: bool
    memory: float
    fits: bool
    moved: float
    gigaflop: float
    kernels: int
    collectives: dict[str, int]
    collective_bytes: float
    forms: dict[str, int]
    bound: dict[str, float]
    scaling: dict[int, float]
    compile_seconds: float


def bound(chip: Chip, counts: hlo.Counts, flop: float, chips: int) -> dict[str, float]:
    """Milliseconds that a pass takes at least: the longest of three, and the collectives, which wait for each other."""
    at_least = {
        "memory": counts.bytes / chip.bandwidth / GIGA * 1e3,
        "arithmetic": flop / chip.teraflops / 1e12 * 1e3,
        "launches": counts.kernels * chip.launch / 1e3,
    }
    collectives = 0.0
    if chips > 1:
        rate = chip.link if chips <= chip.near else chip.network
        sent = 2 * (chips - 1) / chips * counts.collective_bytes  # a ring, there and back
        waits = counts.collectives.total() * chip.latency * math.log2(chips)
        collectives = sent / rate / GIGA * 1e3 + waits / 1e3
    return {**at_least, "collectives": collectives, "step": max(at_least.values()) + collectives}


def scaling(chip: Chip, counts: hlo.Counts, flop: float) -> dict[int, float]:
    """How much of eight chips' speed each of 64 and 256 keeps, with as many clips on each."""
    eight = bound(chip, counts, flop, 8)["step"]
    return {chips: eight / bound(chip, counts, flop, chips)["step"] for chips in (64, 256)}


def devices(name: str, chips: int) -> Any:
    """Stand-ins for so many chips."""
    import jax
    from jax.experimental import topologies

    chip, version = CHIPS[name], jax.__version__
    topology = chip.topology[chips]
    if chip.platform == "cuda":
        package = f"--no-deps jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}"
        described = {"topology_name": name, "topology": topology, "target_config": H100}
    else:
        package = f"'jax[tpu]=={version}'"
        described = {"topology_name": f"{name}:{topology}"}
        # libtpu would ask the machine what it is
        os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost")
        os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"  # there is no chip to lock
    try:
        return topologies.get_topology_desc(platform=chip.platform, **described).devices
    except RuntimeError as error:  # NotImplementedError is one
        sys.exit(f"ahead.py: {name} needs a compiler that is not installed ({error}): pip install {package}")


def compiled(
    name: str, chips: int, variant: str, one: Pass, clips: int, precision: str, remat: bool
) -> tuple[Any, float]:
    """A pass for so many chips, and its floating point operations on each."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from rvm_jax.model.network import MattingNetwork
    from train.device import flops, step

    mesh = Mesh(np.array(devices(name, chips)), ("batch",))
    all_have, divided = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
    dtype = None if precision == "float32" else precision
    network = MattingNetwork(variant, dtype=dtype, axis_name="batch", remat=remat)
    state = jax.eval_shape(lambda key: step.joined(step.init(MattingNetwork(variant), key)), jax.random.key(0))
    rates = dict.fromkeys(step.groups(one.segmentation, one.downsample_ratio), 1e-4)
    channels = {"image": 3, "mask": 1} if one.segmentation else {"foreground": 3, "alpha": 1, "background": 3}
    batch = {
        kind: jax.ShapeDtypeStruct((chips * clips, one.frames, one.size, one.size, count), jnp.uint8)
        for kind, count in channels.items()
    }
    run = jax.shard_map(
        partial(step.train_pass, network, downsample_ratio=one.downsample_ratio),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("batch"), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    function: Any = jax.jit(run, donate_argnums=0, in_shardings=(all_have, divided, all_have))
    untuned = {"xla_gpu_autotune_level": 0} if CHIPS[name].platform == "cuda" else {}
    program = function.lower(state, batch, rates).compile(compiler_options=untuned)
    return program, flops.count(run, state, batch, rates)


def measure(name: str, chips: int, variant: str, of: str, options: argparse.Namespace, remat: bool) -> Row:
    """Compile a pass and read what came of it."""
    one = PASSES[of]
    if options.side is not None:
        one, of = one._replace(size=options.side), f"{of} of {options.side}²"
    begin = time.perf_counter()
    program, flop = compiled(name, chips, variant, one, options.clips, options.precision, remat)
    seconds = time.perf_counter() - begin
    text, size = program.as_text(), program.memory_analysis()
    if options.hlo:
        options.hlo.mkdir(parents=True, exist_ok=True)
        (options.hlo / f"{name}-{chips}-{variant}-{of}{'-remat' * remat}.txt").write_text(text)
    made = size.output_size_in_bytes - size.alias_size_in_bytes + size.temp_size_in_bytes
    memory = (size.argument_size_in_bytes + made + size.generated_code_size_in_bytes) / GIGA
    chip, counts = CHIPS[name], hlo.count(text)
    return Row(
        *(name, chips, variant, of, options.clips, remat, memory, memory <= chip.memory),
        *(counts.bytes / GIGA, flop / GIGA, counts.kernels, dict(counts.collectives), counts.collective_bytes / GIGA),
        *(hlo.forms(text), bound(chip, counts, flop, chips), scaling(chip, counts, flop), seconds),
    )


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """All that was asked for; with --remat as well where a pass does not fit."""
    for name, chips in options.targets:
        for variant in options.variants:
            for of in options.passes:
                row = measure(name, chips, variant, of, options, options.remat)
                yield row
                if not row.fits and not row.remat:
                    yield measure(name, chips, variant, of, options, remat=True)


HEAD = (
    "| chips | network | pass | remat | memory | moved | GFLOP | kernels | all-reduces | step | by | to 64 | to 256 |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """A row of the table."""
    chip, clips = CHIPS[row.chip], f"{row.clips} × " if row.clips > 1 else ""
    most = max(("memory", "arithmetic", "launches"), key=lambda part: row.bound[part])
    sums = f"{sum(row.collectives.values())}, {1e3 * row.collective_bytes:.0f} MB" if row.collectives else "none"
    kept = [f"{100 * row.scaling[n]:.0f} %" if row.collectives else "" for n in (64, 256)]
    memory = f"{row.memory:.1f} of {chip.memory:g} GB" + ("" if row.fits else ": **no**")
    cells = [f"{row.chips} {row.chip}", row.variant, f"{clips}{row.name}", "yes" if row.remat else "", memory]
    cells += [
        f"{row.moved:.1f} GB",
        f"{row.gigaflop:.0f}",
        str(row.kernels),
        sums,
        f"{row.bound['step']:.1f} ms",
        most,
        *kept,
    ]
    return f"| {' | '.join(cells)} |"


def target(word: str) -> tuple[str, int]:
    """`v5e:16` as kind and number of chips."""
    name, _, number = word.partition(":")
    if name not in CHIPS or not number.isdecimal() or int(number) not in CHIPS[name].topology:
        known = " ".join(f"{kind}:{n}" for kind, chip in CHIPS.items() for n in chip.topology)
        raise argparse.ArgumentTypeError(f"{word} is none of {known}")
    return name, int(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", type=target, metavar="CHIP:N", help="h100:1, v5e:4 …")
    parser.add_argument(
        "--variants", nargs="+", default=["mobilenetv3", "resnet50"], choices=("mobilenetv3", "resnet50")
    )
    parser.add_argument("--passes", nargs="+", default=[*PASSES], choices=PASSES, metavar="PASS", help=" ".join(PASSES))
    parser.add_argument("--clips", type=int, default=1, help="on each chip")
    parser.add_argument("--side", type=int, help="of frames, in place of the recipes', where compiling takes too long")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--remat", action="store_true", help="compile no pass without it")
    parser.add_argument("--json", type=Path, help="write the rows here as well, each when it is there")
    parser.add_argument("--hlo", type=Path, metavar="FOLDER", help="keep the programs' text here")
    options = parser.parse_args()

    os.environ["JAX_PLATFORMS"] = "cpu"  # what is compiled for is not here
    for name, chips in options.targets:
        devices(name, chips)
    print(HEAD, flush=True)
    found = []
    for row in rows(options):
        print(line(row), flush=True)
        found.append(row._asdict())
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
