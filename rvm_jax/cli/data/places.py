"""The folders that `rvm data` is told of."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rvm_jax.errors import InputError
from rvm_jax.host.paths import data_folder, expanded, is_url, located, tfds_folder

Folder = Annotated[Path | None, arg(metavar="DIR")]
DataDir = Annotated[str | None, arg(metavar="DIR|URL")]


def chosen_data_dir(given: str | None) -> str | Path:
    """Where prepared datasets are: by default where TFDS has them."""
    return data_folder() if given is None else located(given)


def chosen_manual(given: Path | None, data_dir: str | Path) -> Path:
    """What owners gave: by default it lies where TFDS has it. What is in a bucket was prepared elsewhere."""
    if is_url(data_dir):
        if given is not None:
            raise InputError(f"--manual {given}: nothing can be prepared in {data_dir}, so give a path as --data-dir")
        data_dir = tfds_folder()
    return expanded(given or Path(data_dir, "downloads", "manual"))
