"""`rvm data …`: parses, calls, prints; nothing else."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from rvm_jax.cli.data import sources
from rvm_jax.cli.data.places import DataDir, Folder, chosen_data_dir, chosen_manual
from rvm_jax.cli.parsing import width_and_height
from rvm_jax.errors import InputError
from rvm_jax.host.paths import is_url
from rvm_jax.host.quiet_import import quiet_import


class Commands(tyro.extras.SubcommandApp):
    """Commands of which `--help` lists a line each; tyro by itself would list all that each has to say."""

    def cli(self, *, args: Sequence[str] | None = None, **options: Any) -> Any:
        words = sys.argv[1:] if args is None else args
        if words and words[0] not in ("-h", "--help"):
            return super().cli(args=args, **options)
        listing = tyro.extras.SubcommandApp()
        commands: dict[str, Callable[..., None]] = {
            "list": sources.list_datasets,
            "show": sources.show,
            "download": sources.download,
            "check": check,
            "prepare": prepare,
            "preview": preview,
            "testset": make_testset,
            "bench": bench,
        }
        for name, command in commands.items():
            listing.command(name=name, help=(command.__doc__ or "").partition("\n")[0])(command)
        return listing.cli(args=words, **options)


app = Commands()
app.command(name="list")(sources.list_datasets)
app.command(sources.show)
app.command(sources.download)


@app.command
def check(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")] = ("all",),
    *,
    manual: Folder = None,
    data_dir: DataDir = None,
    folder: Folder = None,
    deep: bool = False,
) -> None:
    """Tell what is there of each dataset before anything is built.

    What is missing, unpaired, of unequal length or too little, and where to get it. Leaves with status 2 if a dataset
    that was asked for by name cannot be prepared, or one that was prepared is damaged.

    Example: rvm data check --manual ~/archives

    Example: rvm data check footage --folder ~/shoot

    Args:
        names: Datasets, `all`, or `footage`; what was prepared of your own as `footage/NAME`.
        manual: What the owners of the datasets gave you; downloads/manual in the data folder by default.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        folder: Your own footage.
        deep: Read all of what is prepared, and compare it with the checksums from when that was done.
    """
    data = chosen_data_dir(data_dir)
    manual = chosen_manual(manual, data)
    quiet_import("data_pipelines.pipelines.batches")
    from data_pipelines.records import clips
    from data_pipelines.tools import check as checking

    if _only_footage(names, folder=folder):
        states = iter([checking.check_footage(_footage(folder))])
    else:
        chosen = checking.chosen(names, data)
        if "all" in names:
            chosen = list(checking.with_shares(chosen, manual, data))
        states = checking.check(chosen, manual, data)
        place = data if is_url(data) or manual.is_dir() else f"{manual}, which does not exist"
        print(f"looking in {place}", flush=True)
    bad = []
    for checked in states:
        print(checking.describe(checked), flush=True)
        damaged = list(clips.verify(checked.name, data)) if deep and checked.state == "prepared" else []
        for line in damaged:
            print(f"  error: {line}", flush=True)
        asked_for = names != ("all",)  # nobody has all of them
        if damaged or checked.state == "damaged" or (checked.state == "not ready" and asked_for):
            bad.append(checked.name)
    if bad:
        raise InputError(f"not ready: {', '.join(bad)}; see above for what is wrong")


@app.command
def prepare(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    manual: Folder = None,
    data_dir: DataDir = None,
    folder: Folder = None,
    name: str | None = None,
    copy_to: Annotated[str | None, arg(metavar="URL")] = None,
    beam_runner: Annotated[str | None, arg(metavar="RUNNER")] = None,
    beam_options: Annotated[str, arg(metavar="NAME=VALUE,...")] = "",
    force: bool = False,
) -> None:
    """Build datasets for training, with all cores.

    `all` builds what lies in the manual folder and says what is not there; `synthetic` needs nothing. `footage` is your
    own: its folder has fgr and pha, in which videos, folders of pictures, or pictures have equal names, and perhaps
    backgrounds. An interrupted build goes on where it was. $RVM_WORKERS says how many processes do it, if not as many
    as there are cores.

    Example: rvm data prepare video_matte_240k/sd dvm_backgrounds --manual ~/archives

    Example: rvm data prepare footage --folder ~/shoot --name shoot

    Example: rvm data prepare video_matte_240k/sd --copy-to gs://mine/data

    Example: rvm data prepare video_matte_240k/hd --beam-runner FlinkRunner --beam-options flink_master=host:8081

    Args:
        names: Datasets, `all`, `synthetic`, or `footage`.
        manual: What the owners of the datasets gave you; downloads/manual in the data folder by default.
        data_dir: The folder where prepared datasets go; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        folder: Your own footage.
        name: What to call it, as footage/NAME; the name of its folder by default.
        copy_to: Where to copy it once it is built, or was before: gs://BUCKET/FOLDER or s3://BUCKET/FOLDER. Every file
            is compared with the original, and an interrupted copy goes on where it was.
        beam_runner: Let workers of Apache Beam do it, on machines that all have these folders under the same paths:
            DirectRunner (this machine), FlinkRunner, SparkRunner and so on.
        beam_options: Those of its pipeline, such as direct_num_workers=8,direct_running_mode=multi_processing.
        force: Build anew what is there already, and replace what --copy-to has.
    """
    data = _to_build_in(data_dir)
    quiet_import("data_pipelines.pipelines.batches")
    from data_pipelines.builders import beam_workers, catalog

    beam = beam_workers.requested(beam_runner, beam_options)
    manual = chosen_manual(manual, data)
    faulty: list[str] = []
    if _only_footage(names, folder=folder, name=name):
        folder = _footage(folder)
        from data_pipelines.tools import prepare

        steps = prepare.footage_steps(folder, name or folder.resolve().name, data, overwrite=force, beam=beam)
    else:
        chosen = catalog.named(list(names))
        if "all" in names:
            chosen, faulty = _those_there(chosen, manual, data, force)
        from data_pipelines.tools import check as checking
        from data_pipelines.tools import prepare

        for one in chosen:
            for other in checking.with_same_parts(one, data):
                print(f"{one} is made beside {other}, which has parts of it: train on one of them", flush=True)
        steps = {one: partial(prepare.prepare, one, manual, data, overwrite=force, beam=beam) for one in chosen}
    from data_pipelines.tools import upload

    if copy_to is not None:
        upload.refuse_unreachable(steps, copy_to)
    for dataset, step in steps.items():
        print(step(), flush=True)
        if copy_to is not None:
            print(upload.upload(dataset, data, copy_to, overwrite=force), flush=True)
    if faulty:
        raise InputError(f"{', '.join(faulty)} could not be prepared: see above for what is wrong with what is there")


def _to_build_in(given: str | None) -> Path:
    data_dir = chosen_data_dir(given)
    if is_url(data_dir):
        option = "$TFDS_DATA_DIR" if given is None else "--data-dir"
        raise InputError(
            f"{option} {data_dir}: datasets are built on this machine, so give a path as --data-dir; --copy-to "
            f"{data_dir} copies what is built"
        )
    return Path(data_dir)


def _those_there(names: list[str], manual: Path, data_dir: Path, force: bool) -> tuple[list[str], list[str]]:
    """The datasets that can be prepared, and those of which something is there, but not as it should be."""
    from data_pipelines.tools import check as checking

    there, faulty = [], []
    for checked in checking.check(list(checking.with_shares(names, manual, data_dir)), manual, data_dir):
        if checked.state in ("ready", "prepared") or (checked.state == "damaged" and force):
            there.append(checked.name)
            continue
        if not checked.absent:
            faulty.append(checked.name)
        print(f"leaving out what is {'not there' if checked.absent else 'faulty'}:\n{checking.describe(checked)}")
    if not there and not faulty:
        raise InputError(
            f"{manual} holds none of the datasets; `rvm data check` says what is expected, and where to ask"
        )
    return there, faulty


def _only_footage(names: tuple[str, ...], **for_footage: object) -> bool:
    """Whether it is about one's own footage, which goes by itself and alone has these options."""
    if "footage" in names and len(names) > 1:
        raise InputError(f"footage goes by itself: give it without {', '.join(n for n in names if n != 'footage')}")
    given = [f"--{option}" for option, value in for_footage.items() if value is not None]
    if given and "footage" not in names:
        raise InputError(f"{' and '.join(given)}: only for footage, not for {', '.join(names)}")
    return "footage" in names


def _footage(folder: Path | None) -> Path:
    if folder is None:
        raise InputError("footage needs a folder: give --folder DIR, with fgr and pha in it")
    return folder


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
    """Show what the network will see, as a grid and a video.

    OUT/grid.png and OUT/clips.mp4 hold augmented clips. Of matting datasets and backgrounds: the network's input,
    foreground, alpha and background. Of segmentation datasets: image, mask, and both.

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
    quiet_import("data_pipelines.pipelines.batches")
    from data_pipelines.pipelines import datasets
    from data_pipelines.tools import preview as previewing

    data = datasets.open_named(names, split, chosen_data_dir(data_dir))
    for path in previewing.write(
        data, out, clips=clips, frames=frames, size=size, seed=seed, augmentation=augmentation, overwrite=force
    ):
        print(path)


@app.command(name="testset")
def make_testset(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    out: Annotated[Path, arg(metavar="DIR")] = Path("testset"),
    data_dir: DataDir = None,
    split: str | None = None,
    size: Annotated[str, arg(metavar="WIDTHxHEIGHT")] = "512x288",
    frames: int = 100,
    clips: int = 0,
    seed: int = 0,
    manual: Folder = None,
) -> None:
    """Build a test set for `rvm evaluate` from prepared datasets.

    Or from what the owners of published ones give. It shows people on still and on moving backgrounds, as PNGs.
    OUT/DATASET_static/CLIP and OUT/DATASET_motion/CLIP hold com (what a method is given), pha and fgr (the truth) and
    bgr. Pictures of people move slowly. The same command makes the same set, and goes on if it was interrupted. The
    clips of a split test_NAME go to OUT/NAME_static and OUT/NAME_motion.

    Example: rvm data testset video_matte_240k/sd dvm_backgrounds background_images

    Example: rvm data testset image_matte dvm_backgrounds background_images --split test_d646 --size 512x512

    Example: rvm data testset synthetic --clips 2 --frames 20

    Example: rvm data testset youtubematte/512x288 --manual ~/archives --out testsets/youtubematte

    Args:
        names: Prepared datasets: matting with backgrounds, or `synthetic`; or one published test set, of which
            nothing but --manual is asked: youtubematte/512x288, youtubematte/1920x1080, p3m_500 or crgnn_real.
        out: The folder to write to.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        split: Which part of the datasets: test by default, or validation of those that have no test at all.
            Backgrounds that have no such part give test, validation, or else train.
        size: Of the frames.
        frames: In a clip, at most.
        clips: Of each dataset, at most; 0 for all.
        seed: Another seed, other backgrounds and movements.
        manual: Where the published ones are; downloads/manual in the data folder by default.
    """
    from data_pipelines.builders import catalog

    if len(names) == 1 and names[0] in catalog.TEST_SETS:
        from data_pipelines.tools import published_testset

        given = {"split": split, "size": size, "frames": frames, "clips": clips, "seed": seed}
        _refuse_for_published(names[0], given)
        published = published_testset.write(names[0], chosen_manual(manual, chosen_data_dir(data_dir)), out)
        print(f"{out}: {published} clips")
        return
    if manual is not None:
        raise InputError(f"--manual {manual} is for published test sets: {', '.join(catalog.TEST_SETS)}; leave it out")
    quiet_import("data_pipelines.pipelines.batches")
    from data_pipelines.pipelines import datasets
    from data_pipelines.tools import testset as testsets

    expected = "WIDTHxHEIGHT of 16 pixels or more, such as 512x288"
    width, height = width_and_height("--size", size, expected)
    if min(width, height) < 16:
        raise InputError(f"--size {size}: expected {expected}")
    if frames < 1 or clips < 0:
        raise InputError(f"--frames {frames} --clips {clips}: expected a frame or more, and clips, or 0 for all")
    data = chosen_data_dir(data_dir)
    foregrounds, backgrounds = datasets.sorted_out(names, data)
    settings = testsets.Settings(tuple(foregrounds), tuple(backgrounds), split, height, width, frames, clips, seed)
    done = testsets.build(settings, data, out)
    print(f"{out}: {done} clips of {width}×{height}")


def _refuse_for_published(name: str, given: Mapping[str, object]) -> None:
    """What is published is written as it is."""
    usual = inspect.signature(make_testset).parameters
    others = [f"--{option} {value}" for option, value in given.items() if value != usual[option].default]
    if others:
        raise InputError(f"{' and '.join(others)}: {name} is written as its owners give it, so leave it out")


@app.command
def bench(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    data_dir: DataDir = None,
    frames: int = 15,
    size: int = 512,
    batch: int = 4,
    batches: int = 20,
    data_processes: int | None = None,
    data_threads: int | None = None,
    accelerators: int = 8,
    accelerator: float = 2000.0,
) -> None:
    """Measure the matting pipeline here, as `rvm train` has it, and where its time goes.

    Says what each stage costs, how many frames a second come out, and how many cores accelerators need.

    Example: rvm data bench synthetic/matting_clips synthetic/background_clips synthetic/background_images

    Args:
        names: Prepared datasets: matting with backgrounds.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        frames: Of each clip.
        size: Side of the square from which training cuts its shapes.
        batch: Clips in a batch.
        batches: How many to make.
        data_processes: As `rvm train` has it: worker processes that make clips, or 0; by default, by the cores.
        data_threads: Likewise: clips that each process makes at a time.
        accelerators: How many there are, for counting the cores that they need.
        accelerator: Frames a second that the network takes on each.
    """
    quiet_import("data_pipelines.pipelines.batches")
    from data_pipelines.pipelines import datasets
    from data_pipelines.pipelines.workers import Workers
    from data_pipelines.tools import bench

    counts = {"frames": frames, "batch": batch, "batches": batches, "accelerators": accelerators}
    for option, value in (*counts.items(), ("accelerator", accelerator)):
        if value <= 0:
            raise InputError(f"--{option} {value}: expected more than 0")
    data = datasets.matting_only(datasets.open_named(names, "train", chosen_data_dir(data_dir)))
    print(bench.table(bench.costs(data, frames=frames, size=size, clips=batch * batches)), flush=True)
    with Workers(data_processes, data_threads) as workers:
        rate = bench.whole(data, frames=frames, size=size, batch=batch, batches=batches, workers=workers)
        print(bench.describe(rate, workers, accelerators, accelerator))
