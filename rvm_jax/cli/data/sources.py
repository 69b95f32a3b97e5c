"""Which datasets there are, under which licences, and the download of those that can be had without asking."""

from typing import Annotated

from tyro.conf import Positional, arg

from rvm_jax.cli.data.places import DataDir, Folder, chosen_data_dir, chosen_manual
from rvm_jax.errors import InputError
from rvm_jax.host.paths import is_url
from rvm_jax.host.progress import Progress
from rvm_jax.host.quiet_import import quiet_import


def list_datasets(*, data_dir: DataDir = None) -> None:
    """List all datasets, their licences, and which are prepared.

    Example: rvm data list

    Args:
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
    """
    from data_pipelines.tools import listing

    print(listing.table(chosen_data_dir(data_dir)))


def show(names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")], *, data_dir: DataDir = None) -> None:
    """Tell all about a dataset: its licence, where it comes from.

    Example: rvm data show synthhuman coco_person

    Args:
        names: Datasets; what was prepared of your own as `footage/NAME`.
        data_dir: Where prepared datasets are; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
    """
    data = chosen_data_dir(data_dir)
    quiet_import("data_pipelines.tools.check")
    from data_pipelines.tools import check, listing

    print("\n\n".join(listing.describe(name, data) for name in check.chosen(names, data)))


def download(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")],
    *,
    manual: Folder = None,
    data_dir: DataDir = None,
) -> None:
    """Download what can be had without asking.

    It goes to the folder from which it is prepared. An interrupted download goes on where it was. The SHA-256 of each
    file is kept beside it in SHA256SUMS, which `sha256sum -c` reads.

    Example: rvm data download synthhuman/0-5 pass_backgrounds/0

    Args:
        names: Datasets: synthhuman, pass_backgrounds, or a share of them, such as synthhuman/0-5.
        manual: Where to put it; downloads/manual in the data folder by default.
        data_dir: The folder where prepared datasets go; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
    """
    from data_pipelines.builders import catalog
    from data_pipelines.tools import download as downloads

    data = chosen_data_dir(data_dir)
    if is_url(data):
        raise InputError(f"--data-dir {data}: archives are downloaded to this machine, so give a path")
    folder = chosen_manual(manual, data)
    files = {name: downloads.files(name, folder) for name in catalog.named(list(names))}
    for name, those in files.items():
        licence = catalog.licence(name)
        print(f"{name} is licensed under {licence.name} by its owner: {licence.link}", flush=True)
        for file in those:
            with Progress(file.path.name, "MB") as progress:

                def told(done: int, total: int, bar: Progress = progress) -> None:
                    bar.update(done // 10**6, total // 10**6)

                print(downloads.fetch(file, told), flush=True)
