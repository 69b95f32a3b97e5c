"""`rvm data …`: parses, calls, prints; nothing else."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from rvm_jax.errors import InputError

app = tyro.extras.SubcommandApp()

DataDir = Annotated[Path | None, arg(metavar="DIR")]


def _import_tensorflow() -> None:
    """Import it once, without the lines with which it greets; nothing else can turn them off."""
    try:
        with tempfile.TemporaryFile() as greeting, _stderr_to(greeting.fileno()):
            import data_pipelines.batches  # noqa: F401 - takes the GPU from it, which it also tells
    except ImportError as error:
        raise InputError(f"{error}: the data pipelines need the train extra, pip install 'rvm-jax[train]'") from error


@contextlib.contextmanager
def _stderr_to(file: int) -> Iterator[None]:
    """Let all that this process and its libraries write to stderr go to a file descriptor."""
    sys.stderr.flush()
    terminal = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _folders(manual: Path | None, data_dir: Path | None) -> tuple[Path, Path]:
    """The manual folder and the folder of prepared datasets: by default those of TFDS."""
    data = data_dir or Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")
    return (manual or data / "downloads" / "manual").expanduser(), data.expanduser()


@app.command
def check(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")] = ("all",),
    *,
    manual: DataDir = None,
    data_dir: DataDir = None,
    folder: DataDir = None,
) -> None:
    """Tell what is there of each dataset before anything is built.

    What is missing, unpaired, of unequal length or too little, and where to get it. Leaves with status 2 if a dataset
    that was asked for by name cannot be prepared.

    Example: rvm data check --manual ~/archives

    Example: rvm data check footage --folder ~/shoot

    Args:
        names: Datasets, `all`, or `footage`.
        manual: What the owners of the datasets gave you; downloads/manual in the data folder by default.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        folder: Your own footage.
    """
    _import_tensorflow()
    from data_pipelines import catalog
    from data_pipelines import check as checking

    manual, data_dir = _folders(manual, data_dir)
    if names == ("footage",):
        states = iter([checking.check_footage(_footage(folder))])
    else:
        states = checking.check(catalog.named(list(names)), manual, data_dir)
        print(f"looking in {manual}" + ("" if manual.is_dir() else ", which does not exist"), flush=True)
    bad = []
    for checked in states:
        print(checking.describe(checked), flush=True)
        bad += [checked.name] if checked.state == "not ready" else []
    if bad and names != ("all",):
        raise InputError(f"not ready: {', '.join(bad)}; see above for what is missing")


@app.command
def prepare(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    manual: DataDir = None,
    data_dir: DataDir = None,
    folder: DataDir = None,
    name: str | None = None,
    force: bool = False,
) -> None:
    """Build datasets for training, with all cores (or $RVM_WORKERS).

    `all` builds what lies in the manual folder and says what is not there; `synthetic` needs nothing. `footage` is your
    own: its folder has fgr and pha, in which videos, folders of pictures, or pictures have equal names, and perhaps
    backgrounds. An interrupted build goes on where it was.

    Example: rvm data prepare video_matte_240k/sd dvm_backgrounds --manual ~/archives

    Example: rvm data prepare footage --folder ~/shoot --name shoot

    Args:
        names: Datasets, `all`, `synthetic`, or `footage`.
        manual: What the owners of the datasets gave you; downloads/manual in the data folder by default.
        data_dir: Where prepared datasets go; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        folder: Your own footage.
        name: What to call it, as footage/NAME; the name of its folder by default.
        force: Build anew what is there already.
    """
    _import_tensorflow()
    from data_pipelines import catalog

    manual, data_dir = _folders(manual, data_dir)
    if names == ("footage",):
        from data_pipelines import preparation

        folder = _footage(folder)
        for line in preparation.prepare_footage(folder, name or folder.resolve().name, data_dir, overwrite=force):
            print(line, flush=True)
        return
    if folder or name:
        raise InputError(f"--folder and --name are for footage, and not for {' '.join(names)}")
    chosen = catalog.named(list(names))
    if "all" in names:
        chosen = _those_there(chosen, manual, data_dir)
    from data_pipelines import preparation

    for dataset in chosen:
        print(preparation.prepare(dataset, manual, data_dir, overwrite=force), flush=True)


def _footage(folder: Path | None) -> Path:
    if folder is None:
        raise InputError("footage needs a folder: give --folder DIR, with fgr and pha in it")
    return folder


def _those_there(names: list[str], manual: Path, data_dir: Path) -> list[str]:
    from data_pipelines import check as checking

    there = []
    for checked in checking.check(names, manual, data_dir):
        if checked.state == "not ready":
            print(f"leaving out what is not there:\n{checking.describe(checked)}", flush=True)
        else:
            there.append(checked.name)
    if not there:
        raise InputError(
            f"{manual} holds none of the datasets; `rvm data check` says what is expected, and where to ask"
        )
    return there


@app.command
def preview(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    out: Annotated[Path, arg(metavar="DIR")] = Path("preview"),
    data_dir: DataDir = None,
    split: str = "train",
    clips: int = 6,
    frames: int = 15,
    size: int = 512,
    seed: int = 0,
    augmentation: Literal["auto", "video", "images", "none"] = "auto",
    force: bool = False,
) -> None:
    """Show what the network will see: write OUT/grid.png and OUT/clips.mp4 with augmented clips.

    Of matting datasets and backgrounds: the network's input, foreground, alpha and background. Of segmentation
    datasets: image, mask, and both.

    Example: rvm data preview synthetic/matting_clips synthetic/background_clips synthetic/background_images

    Example: rvm data preview coco_person --frames 1

    Args:
        names: Prepared datasets: matting with backgrounds, or segmentation.
        out: The folder to write to.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        split: Which part of the datasets.
        clips: How many clips.
        frames: Of each clip.
        size: Side of the square from which training cuts its shapes.
        seed: Another seed, other clips.
        augmentation: That of video or images, or none; by default as the recipe has it for these datasets.
        force: Overwrite what is there.
    """
    _import_tensorflow()
    from data_pipelines import preview as previewing
    from data_pipelines import training_data

    _, data_dir = _folders(None, data_dir)
    data = training_data.open_named(names, split, data_dir)
    for path in previewing.write(
        data, out, clips=clips, frames=frames, size=size, seed=seed, augmentation=augmentation, overwrite=force
    ):
        print(path)


@app.command
def bench(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    data_dir: DataDir = None,
    frames: int = 15,
    size: int = 512,
    batch: int = 4,
    batches: int = 20,
    threads: int | None = None,
    accelerator: float = 2000.0,
) -> None:
    """Measure the matting pipeline: each stage, frames a second, and the cores that an accelerator needs.

    Example: rvm data bench synthetic/matting_clips synthetic/background_clips synthetic/background_images

    Args:
        names: Prepared datasets: matting with backgrounds.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        frames: Of each clip.
        size: Side of the square from which training cuts its shapes.
        batch: Clips in a batch.
        batches: How many to make.
        threads: How many clips are made at the same time; all cores by default.
        accelerator: Frames a second that the network takes, for counting the cores that it needs.
    """
    _import_tensorflow()
    from data_pipelines import throughput, training_data

    _, data_dir = _folders(None, data_dir)
    data = training_data.matting_only(training_data.open_named(names, "train", data_dir))
    print(throughput.table(throughput.stages(data, frames=frames, size=size, clips=batch * batches)), flush=True)
    rate = throughput.whole(data, frames=frames, size=size, batch=batch, batches=batches, threads=threads)
    print(throughput.describe(rate, accelerator))
