"""`rvm evaluate …`: parses, calls, prints; nothing else."""

import sys
from collections.abc import Iterator, Mapping, Sequence
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

    from rvm_jax import composites, evaluation, scoreboard, speed
    from rvm_jax.compiled import keep_compiled
    from rvm_jax.progress import Progress

    keep_compiled()
    clips = composites.find(testset.expanduser())
    chosen = [evaluation.method(text, clips, precision) for text in methods]
    if without_memory:
        chosen += [
            evaluation.Method(f"{one.name} without memory", matte=one.matte, remembers=False)
            for one in chosen
            if one.matte is not None
        ]
    names = [one.name for one in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two methods are called {twice}: give them names, as in one={methods[0]}")
    settings = evaluation.Settings(downsample_ratio, high_resolution, out / "predictions" if save_predictions else None)
    frames = sum(len(clip.pha) for clip in clips)
    results = {}
    for one in chosen:
        with Progress(one.name, total=frames) as progress:
            results[one.name] = list(evaluation.evaluate(clips, one, out, settings, progress.add))
    tables = dict(_tables(results, clips))
    speeds = {
        one.name: (speed.parameters(one.matte), {size: speed.measure(one.matte, size) for size in speed.SIZES})
        for one in chosen
        if one.matte is not None and one.remembers and not skip_speed
    }
    if speeds:
        tables[f"Size and speed on {_device()}"] = scoreboard.speed_table(speeds)
    for name, cells in tables.items():
        print(f"\n{name}\n{scoreboard.aligned(cells)}")
    about = {"testset": str(testset), "methods": list(methods), "high_resolution": high_resolution}
    written = scoreboard.write(out, results, tables, about)
    print(f"\nwrote {', '.join(map(str, written))}")
    if wandb != "disabled":
        _log(wandb, out, tables, written)


def _tables(results: Mapping[str, Any], clips: Sequence[Any]) -> Iterator[tuple[str, list[list[str]]]]:
    from PIL import Image

    from rvm_jax import scoreboard

    for dataset, parts, rows in scoreboard.datasets(results):
        those = [clip for clip in clips if clip.dataset in parts]
        with Image.open(next(iter(those[0].pha.values()))) as picture:
            width, height = picture.size
        title = f"{dataset}, {width}×{height}, {len(those)} clip{'s' if len(those) > 1 else ''}"
        yield title, scoreboard.table([*rows, *scoreboard.published(dataset, (height, width))])


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
    import wandb

    try:
        with wandb.init(project="rvm-jax", job_type="evaluation", mode=mode, dir=out) as run:
            for name, (head, *rows) in tables.items():
                run.log({name: wandb.Table(columns=["method", *head[1:]], data=[list(row) for row in rows])})
            run.log({path.stem: wandb.Image(str(path)) for path in written if path.suffix == ".png"})
    except Exception as error:
        print(f"rvm: W&B did not take it: {error}", file=sys.stderr)
