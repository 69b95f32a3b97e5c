"""`rvm evaluate …`: parses, calls, prints; nothing else."""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from rvm_jax.errors import InputError


def evaluate(
    testset: Annotated[Positional[Path], arg(metavar="TESTSET")],
    methods: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME=]METHOD ...", help_behavior_hint="(required)")],
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
    Prints MAD, MSE, Grad, Conn, dtSSD, MAD-T and the errors of colours beside the published figures, and writes
    results.json, .csv and .md, pictures of the worst and of median frames, and report.html to OUT. Clips that were
    scored before, from the same files, are not scored again.

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

    from rvm_jax.evaluation import evaluate, layout, scoreboard, speed, wandb_log
    from rvm_jax.evaluation.methods import choose_methods
    from rvm_jax.host.compilation_cache import enable_compilation_cache
    from rvm_jax.host.progress import Progress

    settings = evaluate.Settings(downsample_ratio, high_resolution, out / "predictions" if save_predictions else None)
    enable_compilation_cache()
    clips = layout.find(testset.expanduser())
    chosen = choose_methods(methods, clips, precision, without_memory=without_memory)
    frames = sum(len(clip.pha) for clip in clips)
    results = {}
    for one in chosen:
        with Progress(one.name, total=frames) as progress:
            results[one.name] = list(evaluate.evaluate(clips, one, out, settings, progress.add))
    about = {"testset": str(testset), "methods": list(methods), "high_resolution": high_resolution}
    made_here = (testset.expanduser() / layout.MADE_HERE).exists()
    tables = scoreboard.tables(results, clips, high_resolution=high_resolution, other_composites=made_here)
    written = scoreboard.write(out, results, tables, about)
    for name, cells in tables.items():
        print(f"\n{name}\n{scoreboard.aligned(cells)}")
    print(f"\nwrote {', '.join(map(str, written))}", flush=True)
    networks = {one.name: one.matte for one in chosen if one.matte is not None and one.remembers}
    if networks and not skip_speed:
        name, cells = f"Size and speed on {speed.device()}", scoreboard.speed_table(speed.measure_all(networks))
        tables[name] = cells
        scoreboard.write(out, results, tables, about)
        print(f"\n{name}\n{scoreboard.aligned(cells)}")
    if wandb != "disabled":
        wandb_log.log(wandb, out, tables, written)
