"""`rvm matte …`: parses, calls, prints; nothing else."""

import contextlib
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from rvm_jax.cli import devices, matte_names
from rvm_jax.cli.parsing import width_and_height, width_and_perhaps_height
from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import signals
from rvm_jax.host.paths import is_url
from rvm_jax.weights import released

Job = tuple[str, dict[str, Any]]
"""What to matte, and what to write of it, by the names that `matte_video` has for these."""

ANSWER = "closing what was written; once more leaves at once, with what is on the disk"


def matte(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="IN [IN ...] OUT", help_behavior_hint="(required)")],
    *,
    weights: Annotated[str, arg(metavar="NAME|FILE|FOLDER|URL")],
    plate: Annotated[str | None, arg(metavar="FILE|auto")] = None,
    align_plate: bool = False,
    one_frame_delay: bool = False,
    background: Annotated[str | None, arg(metavar="COLOR|FILE|blur|checkered|transparent")] = None,
    alpha: Annotated[str | None, arg(metavar="OUT")] = None,
    foreground: Annotated[str | None, arg(metavar="OUT")] = None,
    downsample_ratio: Annotated[float | None, arg(metavar="RATIO")] = None,
    resize: Annotated[str | None, arg(metavar="WIDTH[xHEIGHT]")] = None,
    start: Annotated[str, arg(metavar="TIME")] = "0",
    end: Annotated[str | None, arg(metavar="TIME")] = None,
    rate: Annotated[str, arg(metavar="FPS")] = "30",
    chunk: Annotated[int | None, arg(metavar="FRAMES")] = None,
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    device: Annotated[str | None, arg(metavar="cpu|gpu|tpu|NUMBER")] = None,
    quality: Literal["low", "medium", "high"] = "high",
    mbps: Annotated[float | None, arg(metavar="NUMBER")] = None,
    pictures: Literal["png", "tif", "exr"] = "png",
    hdr: Literal["tone-map", "keep"] = "tone-map",
    encoder: Literal["x264", "nvenc"] = "x264",
    pipe: Literal["nut", "y4m", "raw"] = "nut",
    camera_size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None,
    camera_rate: Annotated[float | None, arg(metavar="FPS")] = None,
    camera_format: Annotated[str | None, arg(metavar="NAME")] = None,
    preview: bool = False,
    force: bool = False,
) -> None:
    """Cut people out of videos.

    IN is a video, a folder of videos or of pictures, a picture, a stream's URL, webcam (webcam:1 for the second), or -
    for standard input. OUT is written as its ending says: .mp4 on a background, .mov (ProRes 4444), .webm (VP9), .mkv
    (FFV1) or .gif with transparency, .png, .tif or .exr for one picture, or a folder of pictures if it has none, or a /
    at its end. It may also be - for standard output, a stream's URL (rtmp, rtsp, srt, udp, tcp), or virtual, a camera
    for video calls. Frame rate, times, sound, the shape of pixels, and more than 8 bits where OUT holds them are kept.
    With several IN, write {name} in OUT where the name of each is to stand; those whose OUT is there are left out.

    Example: rvm matte talk.mp4 talk_matted.mp4 --weights mobilenetv3 --background office.jpg

    Example: rvm matte clips 'mattes/{name}.mov' --weights runs/mobilenetv3

    Example: rvm matte talk.mp4 talk.mov --weights pytorch_resnet50.pth --plate empty_room.png

    Example: rvm matte webcam virtual --weights mobilenetv3 --background blur

    Args:
        paths: What to matte, and what to write.
        weights: A name of `rvm weights`, a .pth, .safetensors or released .onnx file, a JAX folder, or the folder of a
            training run; gs:// and s3:// too. Of RVM, or of MODNet, BackgroundMattingV2 or U²-Net.
        plate: The same view without the person, which BackgroundMattingV2 needs: a picture, or a video, of which the
            median is taken; auto is the median of IN.
        align_plate: The camera was in a hand: warp the plate to each frame.
        one_frame_delay: Take out what flickers for one frame, in networks that do not remember the frames before.
        background: What to put behind people: green, #rrggbb, a checkerboard, a picture, a video, or what was there,
            blurred. By default .mp4 is green and everything else transparent.
        alpha: Also write alpha, as gray.
        foreground: Also write the colours of people, unmixed with what was behind them.
        downsample_ratio: How large the network sees the frames; by default their longest side becomes 512. People who
            are small in the picture need more.
        resize: The size to bring frames to; a width alone keeps their shape.
        start: Where to begin: seconds, MM:SS or HH:MM:SS.
        end: Where to end.
        rate: Frames a second of a folder of pictures, such as 25 or 30000/1001.
        chunk: How many frames are computed at once. More are faster on a GPU or TPU, and take more memory.
        precision: What the network computes in. bfloat16 is faster on GPUs and TPUs.
        device: What to compute on, instead of what JAX takes by itself: a GPU or TPU if it finds one.
        quality: Of .mp4, .webm and streams.
        mbps: Megabits a second of .mp4, .webm and streams, instead of a quality.
        pictures: What a folder of pictures holds.
        hdr: Make HDR (HLG, PQ) BT.709, or keep it, with 10 bits, in .mp4 (HEVC), .mov, .mkv or .png.
        encoder: Of .mp4 and streams; nvenc is that of NVIDIA GPUs, but for those that are made to compute (A100, H100).
        pipe: What - as OUT gives: nut has times, sound and alpha, y4m one frame rate, raw the bytes of rgba or rgb24.
        camera_size: The size to ask a camera for.
        camera_rate: The frames a second to ask it for.
        camera_format: How it is to send them, such as mjpeg, as which many cameras are faster.
        preview: Show what is made in a window meanwhile; to close it stops nothing.
        force: Overwrite what exists; of several IN, matte those too whose OUT is there already.
    """
    if len(paths) < 2:
        given = paths[0] if paths else "nothing"
        raise InputError(f"given {given}: expected what to matte and what to write, as in: rvm matte in.mp4 out.mp4")
    *sources, out = paths
    names = matte_names.inputs(sources)
    wanted = {"target": out, "alpha": alpha, "foreground": foreground}
    jobs: list[Job] = [
        (name, {kind: matte_names.output(text, name, names) for kind, text in wanted.items() if text is not None})
        for name in names
    ]
    seconds = _seconds("--start", start), None if end is None else _seconds("--end", end)
    size = None
    if resize is not None:
        expected = "a size such as 1280x720, or a width such as 1280"
        size = width_and_perhaps_height("--resize", resize, expected)
    camera = None if camera_size is None else width_and_height("--camera-size", camera_size, "a size such as 1280x720")
    fps = _rate(rate)

    from rvm_jax.host.memory import keep_freed_memory

    keep_freed_memory()
    with signals.late_interrupt():  # no JAX yet, which takes seconds, as long as something may be refused
        from rvm_jax.host.progress import Progress
        from rvm_jax.video import backgrounds, options, source
        from rvm_jax.video.plates import opening
        from rvm_jax.video.streaming.preview import open_preview
        from rvm_jax.video.writing import targets

    devices.check(device)
    options.part(*seconds, size)
    options.check_numbers(rate=fps, chunk=chunk, mbps=mbps, downsample_ratio=downsample_ratio, camera_rate=camera_rate)
    backgrounds.check(background or "green")
    for name in names:
        opening.check_options(plate, align_plate, name)
    if fps != 30 and not any(Path(name).is_dir() for name in names):
        raise InputError(f"--rate is for folders of pictures, and {names[0]} is none: leave it out")
    jobs = _to_do(jobs, pipe, force)
    read = targets.read_places(names, background, plate)
    for _, places in jobs:
        outputs = [targets.target(text, pipe) for text in places.values()]
        targets.check(read, outputs, force=force)
        options.check_written(outputs, quality=quality, mbps=mbps, pictures=pictures, pipe=pipe)
    if not jobs:
        return
    if len(names) == 1:  # of several, it is told beside the others
        source.check(names[0])
    if not is_url(weights):
        released.existing(Path(weights))
    stack = contextlib.ExitStack()
    look = stack.enter_context(open_preview()) if preview else lambda made: None
    with signals.late_interrupt():
        from rvm_jax.host.compilation_cache import enable_compilation_cache
        from rvm_jax.matte import load
        from rvm_jax.video import matting

        enable_compilation_cache()
        computing_on = devices.choose(device)
        network = load(weights, precision)
    opening.check_network(network, plate, one_frame_delay)
    print(f"rvm: computing on {computing_on}", file=sys.stderr)
    failures = 0
    with stack, signals.stop_requests(ANSWER) as request:
        for number, (name, places) in enumerate(jobs):
            try:
                with Progress(Path(name).name) as progress:
                    done = matting.matte_video(
                        name,
                        **places,
                        weights=network,
                        plate=plate,
                        align_plate=align_plate,
                        one_frame_delay=one_frame_delay,
                        background=background,
                        downsample_ratio=downsample_ratio,
                        resize=size,
                        start=seconds[0],
                        end=seconds[1],
                        rate=fps,
                        chunk=chunk,
                        quality=quality,
                        mbps=mbps,
                        pictures=pictures,
                        hdr=hdr,
                        encoder=encoder,
                        pipe=pipe,
                        camera_size=camera,
                        camera_rate=camera_rate,
                        camera_format=camera_format,
                        force=force,
                        progress=progress.update,
                        stop=request,
                        look=look,
                    )
            except KeyboardInterrupt:
                if not request():
                    raise
                there = Path(places["target"]).expanduser().exists()
                kept = f"{_kept(name, names, places)} holds what was on the disk" if there else "nothing was kept"
                raise Stopped(f"stopped at once: {kept}", request()) from None
            except Exception as error:  # whatever it is, it must not end the work on the others
                if request():
                    raise Stopped(f"stopped: {error}", request()) from error
                if len(jobs) == 1:
                    raise
                unknown = f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"
                print(f"rvm: {error if isinstance(error, InputError) else unknown}", file=sys.stderr)
                failures += 1
            else:
                late = ""
                if done.latency is not None:
                    late = (
                        f"; {1000 * done.latency:.0f} ms from reading to sending, {done.dropped} dropped for newer ones"
                    )
                if done.unaligned:
                    late += f"; {plate} could not be aligned with {done.unaligned} of them"
                if not done.complete:
                    held = f"nothing of {name} was matted yet"
                    if done.frames:
                        held = f"{_kept(name, names, places)} holds the first {_frames(done.frames)} of {name}"
                    raise Stopped(f"stopped: {held}{late}", request())
                where = sys.stderr if places["target"] == "-" else sys.stdout
                print(f"{places['target']}: {_frames(done.frames)}{late}", file=where)
            if request() and jobs[number + 1 :]:
                raise Stopped(f"stopped before {jobs[number + 1][0]}", request())
    if failures:
        raise InputError(f"{failures} of {len(jobs)} could not be matted: see above")


def _to_do(jobs: list[Job], pipe: str, force: bool) -> list[Job]:
    """What of several is not there yet; the rest is told."""
    from rvm_jax.video.writing import targets

    if len(jobs) == 1 or force:
        return jobs
    left = []
    for name, places in jobs:
        if targets.are_written([targets.target(text, pipe) for text in places.values()]):
            print(f"rvm: {places['target']} is there already: {name} is left out (--force mattes it)", file=sys.stderr)
        else:
            left.append((name, places))
    return left


def _kept(name: str, names: list[str], places: dict[str, str]) -> str:
    """Where what was made of `name` until it was stopped is.

    Of several, it is given another name, so that it is not taken for whole when the same command is given again.
    """
    from rvm_jax.video import demux
    from rvm_jax.video.writing import targets

    if len(names) == 1 or demux.is_live(name):
        return places["target"]
    kept = {kind: targets.set_aside(targets.target(text)) for kind, text in places.items()}
    return kept["target"]


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"


def _seconds(option: str, text: str) -> float:
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3:
        raise InputError(f"{option} {text}: expected seconds, MM:SS or HH:MM:SS, such as 90 or 1:30")
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def _rate(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--rate {text}: expected frames a second, such as 25 or 30000/1001") from None
