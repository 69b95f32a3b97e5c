"""`rvm evaluate …`: parses, calls, prints; nothing else."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from rvm_jax.errors import InputError

if TYPE_CHECKING:
    from rvm_jax.evaluation.methods import AnyMatte, Method
    from rvm_jax.evaluation.rows import ResultRow


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
    row: Annotated[Path | None, arg(metavar="ROW.json")] = None,
    wandb: Literal["disabled", "offline", "online"] = "disabled",
) -> None:
    """Score networks, or what any method predicted, against a test set.

    TESTSET is a folder such as `rvm data testset` makes, or a published one: DATASET/CLIP/com, pha and fgr, the truth
    of all frames or of some. A METHOD is a weight file, a JAX folder, the folder of a training run, or a folder of
    predictions: DATASET/CLIP/pha and fgr. Networks are RVM's, MODNet, U²-Net and BackgroundMattingV2, which is given
    the test set's DATASET/CLIP/bgr. Prints MAD, MSE, Grad, Conn, dtSSD, MAD-T and the errors of colours beside the
    published figures, and writes results.json, .csv and .md, pictures of the worst and of median frames and of the same
    frames by all methods, and report.html to OUT. Clips that were scored before, from the same files, are not scored
    again.

    Example: rvm evaluate testset runs/mobilenetv3

    Example: rvm evaluate testset released=rvm_mobilenetv3.pth ours=runs/mobilenetv3 other=predictions/other

    Example: rvm evaluate testset mobilenetv3 modnet=modnet.ckpt bgmv2=pytorch_resnet50.pth u2net=u2net.pth

    Example: rvm evaluate testset runs/seed0 runs/seed1 runs/seed2 --row rows/mine.json

    Args:
        testset: The test set.
        methods: What to score.
        out: The folder to write to.
        downsample_ratio: How large RVM and BackgroundMattingV2 see the frames; by default the longest side becomes 512
            for RVM, and a quarter for the other. The published HD figures are at 0.25.
        precision: What networks compute in.
        high_resolution: Score as the published HD figures were: Grad of alphas that are not stretched, without Conn.
        without_memory: Score networks that have a memory once more with a state that is empty for every frame.
        save_predictions: Keep what networks predict, as PNGs in OUT/predictions.
        skip_speed: Do not count multiply-adds nor measure frames a second at HD and 4K.
        row: Write what the network is, how it was trained and what it scores, as a row of `rvm table`, called as the
            file. Several METHODs are then runs of one recipe with several seeds; what another test set gives is
            added to the row.
        wandb: Log the tables and pictures to Weights & Biases.
    """
    if not methods:
        raise InputError("no method was given: expected weights or a folder of predictions, such as runs/mobilenetv3")

    if wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise InputError(f"--wandb {wandb} needs W&B's package: pip install wandb")

    from rvm_jax.evaluation import evaluate, layout, rows, scoreboard, speed, wandb_log
    from rvm_jax.evaluation.methods import choose_methods
    from rvm_jax.host.compilation_cache import enable_compilation_cache
    from rvm_jax.host.progress import Progress

    settings = evaluate.Settings(downsample_ratio, high_resolution, out / "predictions" if save_predictions else None)
    enable_compilation_cache()
    clips = layout.find(testset.expanduser())
    chosen = choose_methods(methods, clips, precision, without_memory=without_memory)
    networks = {one.name: one.matte for one in chosen if one.matte is not None and one.remembers}
    begun = None if row is None else _row(chosen, networks, row)
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
    if row is not None and begun is not None:
        how = {"downsample_ratio": downsample_ratio, "precision": precision, "high_resolution": high_resolution}
        scored = {name: results[name] for name in networks}
        rows.write(rows.with_scores(begun, scored, clips, how, made_here=made_here), row)
        written.append(row)
    for one in chosen:
        if one.matte is not None and one.matte.needs:
            print(f"\n{one.name} sees, beside each frame, {layout.backgrounds_in_words(clips)}")
    print(f"\nwrote {', '.join(map(str, written))}", flush=True)
    if networks and not skip_speed:
        name, cells = f"Size and speed on {speed.device()}", scoreboard.speed_table(speed.measure_all(networks))
        tables[name] = cells
        scoreboard.write(out, results, tables, about)
        print(f"\n{name}\n{scoreboard.aligned(cells)}")
    if wandb != "disabled":
        wandb_log.log(wandb, out, tables, written)


def table(
    rows: Annotated[Positional[tuple[Path, ...]], arg(metavar="ROW.json ...", help_behavior_hint="(required)")],
    *,
    into: Annotated[Path | None, arg(metavar="FILE.md")] = None,
) -> None:
    """Draw the table of baselines: rows that `rvm evaluate --row` wrote, beside the published figures, as Markdown.

    Of several runs of a recipe it shows mean ± deviation.

    Example: rvm table docs/rows/*.json mine.json

    Args:
        rows: What to show, in this order.
        into: Put it between the two marks of a Markdown file, such as docs/baselines.md, and do not print it.
    """
    if not rows:
        raise InputError("no row was given: expected files that `rvm evaluate --row` wrote, such as docs/rows/*.json")

    from rvm_jax.evaluation import baseline_table
    from rvm_jax.evaluation.rows import read

    for path in rows:
        alike = [str(other) for other in rows if other.stem == path.stem]
        if len(alike) > 1:
            raise InputError(f"two rows would be called {path.stem} ({', '.join(alike)}): leave one out, or rename it")
    text = baseline_table.draw([read(path) for path in rows])
    if into is None:
        print(text, end="")
        return
    baseline_table.put_into(into, text)
    print(f"wrote {into}")


def _row(chosen: "Sequence[Method]", networks: "Mapping[str, AnyMatte]", path: Path) -> "ResultRow":
    """The row of networks that are to be scored, with what the folders of their runs tell."""
    from rvm_jax.evaluation import rows
    from rvm_jax.host.paths import is_url
    from train.tracking.summary import summarize

    if len(networks) < sum(one.remembers for one in chosen):
        raise InputError("--row tells of networks, not of predictions: leave those out")
    sources = {one.name: one.source for one in chosen if one.name in networks}
    row = rows.of_networks(
        networks, {name: None if is_url(source) else summarize(Path(source)) for name, source in sources.items()}
    )
    rows.check_place(row, path)
    return row
