"""How much of decoding, computing and encoding happens at once, and how much memory a whole video takes.

    python benchmarks/matting.py [VIDEO] [--weights FILE] [--kinds .mp4 .mov] [--memory 30 600] [--contest [ONNX ...]]

First each of the three alone, on frames that are in memory, then all together as `rvm matte` does it; the ratio is to
the slowest of the three. With `--memory`, videos of so many seconds are matted, each in a process of its own, and the
most memory that it held is printed. Without VIDEO a synthetic one is made: 1080p, 30 frames a second.

With `--contest`, `rvm matte` and a script over ONNX Runtime take turns as commands, with our export of the same weights
and with the ONNX files that are given, as those that RVM's authors released. Both put people before green, into an mp4.
A video of one frame tells how long the command needs for its first.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

# Python puts the folder of a script first, where `matting` would be the benchmark and not the module.
sys.path[0] = str(Path(__file__).resolve().parent.parent)


def synthetic(path: Path, frames: int, rate: int = 30, height: int = 1080, bits: int = 8) -> Path:
    """A video of soft shapes that move, with a little noise, which codecs find about as hard as a talking person."""
    width = height * 16 // 9
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    noise = rng.integers(0, 6, (8, height, width, 3), np.uint8)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p10le" if bits == 10 else "yuv420p"
        stream.codec_context.options = {"preset": "veryfast", "crf": "20"}
        pictures = []
        for phase in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            red, green, blue = np.sin(9 * x + phase), np.cos(7 * y + phase), np.sin(5 * (x + y) - phase)
            pictures.append((110 + 60 * np.stack([red, green, blue], -1)).astype(np.uint8))
        for number in range(frames):
            picture = pictures[number % len(pictures)] + noise[number % len(noise)]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode(None))
    return path


def loaded(weights: Path | None) -> Any:
    """A network; without weights of its own it has random ones, which take the same time."""
    import jax
    import jax.numpy as jnp

    from rvm_jax import Matte, MattingNetwork, load

    if weights is not None:
        return load(weights)
    network = MattingNetwork("mobilenetv3")
    frames = jnp.zeros((1, 1, 64, 64, 3))
    return Matte(network, jax.jit(network.init)(jax.random.key(0), frames))


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(video: Path, weights: Path | None, kind: str, most: int) -> dict[str, float]:
    """Seconds that decoding, computing and encoding take alone, and all of it at once; and of how many frames."""
    import jax

    from rvm_jax.matte import automatic_ratio
    from rvm_jax.video import matting, sink, source
    from rvm_jax.video.backgrounds import Background
    from rvm_jax.video.frames import Part
    from rvm_jax.video.streaming.chunks import read_chunks

    matte = loaded(weights)
    with source.open_source(str(video)) as opened:
        end = Fraction(most) / opened.rate
    part = Part(end=end)

    def decode() -> None:
        with source.open_source(str(video), part) as opened:
            for _ in opened.items:
                pass

    with source.open_source(str(video), part) as opened:
        size = opened.height, opened.width
        ratio = automatic_ratio(size)
        length = matting.automatic_chunk(*size)
        chunks = list(read_chunks(opened, length, Background()))
    output = "composite" if kind == ".mp4" else "cut_out"
    still = jax.device_put(np.zeros((1, 1, 1, 3), np.uint8)) if kind == ".mp4" else None
    made: list[np.ndarray] = []

    def compute() -> None:
        state = matte.network.initial_state(1, size, ratio, np.float32)
        made.clear()
        for chunk in chunks:
            pixels = jax.device_put(chunk.pixels)
            results, state = matting.matte_chunk(matte.network, matte.variables, pixels, state, still, ratio, (output,))
            made.append(np.asarray(results[output]))

    with tempfile.TemporaryDirectory() as folder:

        def encode() -> None:
            with (
                source.open_source(str(video), part) as opened,
                sink.open_sink(Path(folder) / f"alone{kind}", kind, opened, made[0].shape[-1]) as put,
            ):
                for chunk, pictures in zip(chunks, made, strict=True):
                    for frame, pixels in zip(chunk.frames, pictures, strict=False):
                        put(frame._replace(pixels=pixels))

        def together() -> None:
            matting.matte_video(video, Path(folder) / f"out{kind}", weights=matte, end=float(end), force=True)

        compute()  # compiles
        times = {"decode": decode, "compute": compute, "encode": encode, "together": together}
        measured = {name: min(seconds(work) for _ in range(2)) for name, work in times.items()}
        return measured | {"frames": sum(len(chunk.frames) for chunk in chunks)}


def peak_megabytes(video: Path, weights: Path | None, kind: str) -> float:
    """The most memory that a process held which mattes a whole video."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(video), "--matte-to", f"{folder}/out{kind}"]
        command += [] if weights is None else ["--weights", str(weights)]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


def matte_with_onnx(video: Path, target: Path, model: Path) -> None:
    """What one would write in an hour: `model` run over the frames one by one, the state carried, before green."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    green = np.array([0, 1, 0], np.float32).reshape(3, 1, 1)
    states = [np.zeros((1, 1, 1, 1), np.float32)] * 4
    with av.open(str(video)) as source, av.open(str(target), "w") as sink:
        given = source.streams.video[0]
        given.thread_type = "AUTO"
        ratio = np.array([min(1, 512 / max(given.height, given.width))], np.float32)
        made: Any = sink.add_stream("libx264", rate=given.average_rate)
        made.height, made.width, made.pix_fmt = given.height, given.width, "yuv420p"
        made.codec_context.options = {"crf": "18", "preset": "fast", "bf": "0"}  # as `rvm matte`
        for frame in source.decode(given):
            pixels = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)[None]
            inputs = {"src": np.ascontiguousarray(pixels, np.float32) / 255, "downsample_ratio": ratio}
            inputs |= {f"r{number}i": state for number, state in enumerate(states, 1)}
            foreground, alpha, *states = session.run(None, inputs)
            shown = (foreground * alpha + green * (1 - alpha))[0].transpose(1, 2, 0) * 255
            sink.mux(made.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(shown.round(), np.uint8), "rgb24")))
        sink.mux(made.encode(None))


def command_seconds(command: list[Any]) -> tuple[float, float]:
    """How long a command takes, on the clock and in processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(part) for part in command], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def contest(video: Path, weights: Path, others: list[Path], frames: int, rounds: int) -> list[dict[str, Any]]:
    """`rvm matte` against the script: the least of the rounds, for `frames` frames and for one."""
    import onnx

    from rvm_jax.export import onnx_network
    from rvm_jax.weights.files import read_network

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(onnx_network.build(read_network(weights)), folder / "ours.onnx")
        cuts = {count: cut(video, folder / f"{count}.mp4", count) for count in (frames, 1)}
        rvm = [sys.executable, "-c", "import sys; from rvm_jax.cli.main import main; sys.exit(main())", "matte"]
        models = {"ONNX Runtime, our export": folder / "ours.onnx", **{str(other): other for other in others}}
        target = folder / "out.mp4"
        contenders: dict[str, Callable[[Path], list[Any]]] = {
            "rvm matte": lambda video: [*rvm, video, target, "--weights", weights, "--force"],
            **{label: partial(onnx_command, target, model) for label, model in models.items()},
        }
        command_seconds(contenders["rvm matte"](cuts[1]))  # compiles
        times: dict[str, dict[int, list[tuple[float, float]]]] = {
            label: {count: [] for count in cuts} for label in contenders
        }
        for _ in range(rounds):
            for count, cut_video in cuts.items():
                for label, command in contenders.items():
                    times[label][count].append(command_seconds(command(cut_video)))
    results = []
    for label, found in times.items():
        (clock, cores), (first, first_cores) = (map(min, zip(*found[count], strict=True)) for count in cuts)
        results.append(
            {
                "contender": label,
                "seconds": clock,
                "core_seconds": cores,
                "first_seconds": first,
                "first_core_seconds": first_cores,
            }
        )
    return results


def onnx_command(target: Path, model: Path, video: Path) -> list[Any]:
    return [sys.executable, __file__, video, "--matte-to", target, "--with-onnx", model]


def cut(video: Path, target: Path, frames: int) -> Path:
    """The first frames of a video, encoded again."""
    with av.open(str(video)) as source, av.open(str(target), "w") as sink:
        given = source.streams.video[0]
        made: Any = sink.add_stream("libx264", rate=given.average_rate)
        made.height, made.width, made.pix_fmt = given.height, given.width, "yuv420p"
        for _, frame in zip(range(frames), source.decode(given), strict=False):
            frame.pts = None
            sink.mux(made.encode(frame))
        sink.mux(made.encode(None))
    return target


def resident_peak() -> float:
    """The most memory this process has held, in MB. Not getrusage's, which counts the parent's from before the exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--kinds", nargs="*", default=[".mp4", ".mov"], choices=(".mp4", ".mov", ".webm"))
    parser.add_argument("--frames", type=int, default=120, help="how many frames are timed")
    parser.add_argument("--memory", type=int, nargs="*", default=[], metavar="SECONDS")
    parser.add_argument("--rate", type=int, default=30, help="frames a second of the videos for --memory")
    parser.add_argument("--height", type=int, default=1080, help="of synthetic videos")
    parser.add_argument("--bits", type=int, default=8, choices=(8, 10), help="of synthetic videos")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    parser.add_argument("--contest", type=Path, nargs="*", metavar="ONNX", help="race ONNX Runtime; needs --weights")
    parser.add_argument("--rounds", type=int, default=3, help="of the contest")
    parser.add_argument("--matte-to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--with-onnx", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contest is not None and options.weights is None:
        parser.error("--contest needs --weights: both sides matte with the same")

    if options.with_onnx:
        matte_with_onnx(options.video, options.matte_to, options.with_onnx)
        return
    if options.matte_to:
        from rvm_jax import matte_video
        from rvm_jax.host.memory import keep_freed_memory

        keep_freed_memory()  # as the command does
        matte_video(options.video, options.matte_to, weights=loaded(options.weights))
        print(resident_peak())
        return

    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = {"cores": os.cpu_count(), "together": {}, "memory": {}}
        made = {"height": options.height, "bits": options.bits}
        video = options.video or synthetic(Path(folder) / "short.mp4", options.frames, **made)
        print("| written | decode | compute | encode | sum | together | ratio to the slowest | frames/s |")
        print("|---|---|---|---|---|---|---|---|")
        for kind in options.kinds:
            times = compare(video, options.weights, kind, options.frames)
            results["together"][kind] = times
            alone = [times[name] for name in ("decode", "compute", "encode")]
            whole = times["together"]
            cells = [*alone, sum(alone), whole, whole / max(alone), times["frames"] / whole]
            print(f"| {kind} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
        for length in options.memory:
            long = synthetic(Path(folder) / f"{length}.mp4", length * options.rate, options.rate, **made)
            for kind in options.kinds[:1]:
                megabytes = results["memory"][length] = peak_megabytes(long, options.weights, kind)
                what = f"{length * options.rate} frames of {options.height}p, {options.bits} bits, to {kind}"
                print(f"{what}: {megabytes:.0f} MB at most", flush=True)
            long.unlink()
        if options.contest is not None:
            results["contest"] = contest(video, options.weights, options.contest, options.frames, options.rounds)
            print("\n| contender | s | s of a core | one frame: s | s of a core |\n|---|---|---|---|---|")
            for row in results["contest"]:
                cells = [value for value in row.values() if isinstance(value, float)]
                print(f"| {row['contender']} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
