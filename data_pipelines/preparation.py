"""Building datasets from what lies in the manual folder."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import absl.logging
import tensorflow_datasets as tfds

from data_pipelines import catalog
from data_pipelines.builders.background_images.layout import FOLDER as BACKGROUNDS
from data_pipelines.builders.clip_builder import FolderConfig
from rvm_jax.errors import InputError


def prepare(name: str, manual: Path, data_dir: Path, *, config: Any = None, overwrite: bool = False) -> str:
    """Build a dataset, unless it is there; returns a line about it.

    An interrupted build goes on where it was.
    """
    absl.logging.set_verbosity(absl.logging.ERROR)  # TFDS tells much that is of no use here
    builder = catalog.builder(name, data_dir, config)
    mode = "REUSE_CACHE_IF_EXISTS" if overwrite else "REUSE_DATASET_IF_EXISTS"
    options = tfds.download.DownloadConfig(
        manual_dir=manual,
        download_mode=tfds.GenerateMode[mode],
        compute_stats=tfds.download.ComputeStatsMode.SKIP,
        try_download_gcs=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # likewise
        builder.download_and_prepare(download_config=options)
    clips = builder.info.metadata["clips"]
    parts = [f"{split} {len(table['name']):,} ({sum(table['length']):,} frames)" for split, table in clips.items()]
    return f"{name}: {', '.join(parts)}, {builder.info.dataset_size / 1e9:.2f} GB in {builder.data_dir}"


def prepare_footage(folder: Path, name: str, data_dir: Path, *, overwrite: bool = False) -> Iterator[str]:
    """Build `footage/NAME` from a folder in the plain layout, and `background_images/NAME` if it has backgrounds."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise InputError(f"{name!r} cannot name a dataset: use letters, digits, '_' and '-', such as --name shoot")
    datasets = ["footage", *(["background_images"] if (folder / BACKGROUNDS).is_dir() else [])]
    for dataset in datasets:
        config = FolderConfig(name=name, folder=folder)
        yield prepare(f"{dataset}/{name}", folder, data_dir, config=config, overwrite=overwrite)
