"""`rvm evaluate …`: parses, calls, prints; nothing else."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from rvm_jax.errors import InputError


def evaluate(
    testset: Annotated[Positional[Path], arg(metavar="TESTSET")],
    methods: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME=]METHOD ...")],
    *,
    out: Annotated[Path, arg(metavar="DIR")] = Path("evaluation"),
    downsample_ratio: Annotated[float | None, arg(metavar="RATIO")] = None,
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    high_resolution: bool = False,
    without_memory: bool = False,
    save_predictions: bool = False,
    skip_speed: bool = False,
    wandb: Literal["disabled", "offline", "online"] = "disabled",
) -> None:
    """Score networks, or what any method predicted, against a test set.

    TESTSET is a folder such as `rvm data testset` makes, or a published one: DATASET/CLIP/com, pha and fgr. A METHOD is
    a weight file, a JAX folder, the folder of a training run, or a folder of predictions: DATASET/CLIP/pha and fgr.
    Prints MAD, MSE, Grad, Conn, dtSSD and the errors of colours beside the published figures, and writes results.json,
    .csv and .md, pictures of the worst and of median frames, and report.html to OUT. Clips that were scored before,
    from the same files, are not scored again.

    Example: rvm evaluate testset runs/mobilenetv3

    Example: rvm evaluate testset released=rvm_mobilenetv3.pth ours=runs/mobilenetv3 other=predictions/other

    Args:
        testset: The test set.
        methods: What to score.
        out: The folder to write to.
        downsample_ratio: How large networks see the frames; by default their longest side becomes 512. The published HD
            figures are at 0.25.
        precision: What networks compute in.
        high_resolution: Score as the published HD figures were: Grad of alphas that are not stretched, without Conn.
        without_memory: Score each network once more with a state that is empty for every frame.
        save_predictions: Keep what networks predict, as PNGs in OUT/predictions.
        skip_speed: Do not count multiply-adds nor measure frames a second at HD and 4K.
        wandb: Log the tables and pictures to Weights & Biases.
    """
    if not methods:
        raise InputError("no method was given: expected weights or a folder of predictions, such as runs/mobilenetv3")

    if wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise InputError(f"--wandb {wandb} needs W&B's package: pip install wandb")

    from rvm_jax.evaluation import evaluate, layout, scoreboard
    from rvm_jax.host.compilation_cache import enable_compilation_cache
    from rvm_jax.host.progress import Progress

    settings = evaluate.Settings(downsample_ratio, high_resolution, out / "predictions" if save_predictions else None)
    enable_compilation_cache()
    clips = layout.find(testset.expanduser())
    chosen = [evaluate.method(text, clips, precision) for text in methods]
    if without_memory:
        chosen += [
            evaluate.Method(f"{one.name} without memory", matte=one.matte, remembers=False)
            for one in chosen
            if one.matte is not None
        ]
    alike: dict[str, list[str]] = {}
    for one in chosen:
        alike.setdefault(scoreboard.sheet_name(one.name), []).append(one.name)
    twice = next((names for names in alike.values() if len(names) > 1), None)
    if twice:
        called = " and ".join(dict.fromkeys(twice))
        raise InputError(f"two methods are called {called}: give them other names, as in NAME=PATH")
    for one in chosen:
        evaluate.check(clips, one)
    frames = sum(len(clip.pha) for clip in clips)
    results = {}
    for one in chosen:
        with Progress(one.name, total=frames) as progress:
            results[one.name] = list(evaluate.evaluate(clips, one, out, settings, progress.add))
    about = {"testset": str(testset), "methods": list(methods), "high_resolution": high_resolution}
    tables = dict(_tables(results, clips, high_resolution))
    written = scoreboard.write(out, results, tables, about)
    for name, cells in tables.items():
        print(f"\n{name}\n{scoreboard.aligned(cells)}")
    print(f"\nwrote {', '.join(map(str, written))}", flush=True)
    networks = {one.name: one.matte for one in chosen if one.matte is not None and one.remembers}
    if networks and not skip_speed:
        name, cells = f"Size and speed on {_device()}", scoreboard.speed_table(_speeds(networks))
        tables[name] = cells
        scoreboard.write(out, results, tables, about)
        print(f"\n{name}\n{scoreboard.aligned(cells)}")
    if wandb != "disabled":
        _log(wandb, out, tables, written)


def _tables(
    results: Mapping[str, Any], clips: Sequence[Any], high_resolution: bool
) -> Iterator[tuple[str, list[list[str]]]]:
    from rvm_jax.evaluation import layout, scoreboard

    sizes = {clip.label: layout.size(clip) for clip in clips}
    for dataset, parts, rows in scoreboard.datasets(results):
        those = [clip for clip in clips if clip.dataset in parts]
        size, *others = {sizes[clip.label] for clip in those}
        told = "several sizes" if others else f"{size[1]}×{size[0]}"
        beside = [] if others else scoreboard.published(dataset, size, high_resolution=high_resolution)
        title = f"{dataset}, {told}, {len(those)} clip{'s' if len(those) > 1 else ''}"
        yield title, scoreboard.table([*rows, *beside])


def _speeds(networks: Mapping[str, Any]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Parameters of networks by name, and their speed at every size; why one could not be timed goes to stderr."""
    from rvm_jax.evaluation import speed

    def failed(where: str, error: Exception) -> None:
        reason = str(error).partition("\n")[0]
        print(f"rvm: {where} cannot be timed: {reason}", file=sys.stderr)

    return {
        name: (
            speed.parameters(matte),
            {size: speed.measure(matte, size, partial(failed, f"{name} at {size}")) for size in speed.SIZES},
        )
        for name, matte in networks.items()
    }


def _device() -> str:
    import jax

    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})" if device.device_kind != device.platform else device.platform


def _log(
    mode: Literal["offline", "online"],
    out: Path,
    tables: Mapping[str, Sequence[Sequence[str]]],
    written: Sequence[Path],
) -> None:
    """What was found is on disk already, so whatever goes wrong here is only told."""
    try:
        import wandb

        with wandb.init(project="rvm-jax", job_type="evaluation", mode=mode, dir=out) as run:
            for name, (head, *rows) in tables.items():
                run.log({name: wandb.Table(columns=["method", *head[1:]], data=[list(row) for row in rows])})
            run.log({path.stem: wandb.Image(str(path)) for path in written if path.suffix == ".png"})
    except Exception as error:
        print(f"rvm: W&B did not take it: {error}", file=sys.stderr)
