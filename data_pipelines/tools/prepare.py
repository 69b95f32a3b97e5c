"""Dataset preparation: runs a builder on what lies in the manual folder, and says what came of it."""

import contextlib
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import absl.logging
import tensorflow_datasets as tfds

from data_pipelines.builders import catalog
from data_pipelines.builders.background_images.archive import FOLDER as BACKGROUNDS
from data_pipelines.builders.beam_workers import BeamRequest
from data_pipelines.builders.clip_builder import ClipBuilder, FolderConfig, source_fingerprint
from data_pipelines.records import licences
from data_pipelines.records.clips import PreparedDataset, open_prepared
from data_pipelines.tools.check import check_footage
from rvm_jax.errors import InputError


def prepare(
    name: str,
    manual: Path,
    data_dir: Path,
    *,
    config: Any = None,
    overwrite: bool = False,
    beam: BeamRequest | None = None,
) -> str:
    """Build a dataset, unless it is there; returns a line about it.

    An interrupted build goes on where it was. What is to be overwritten stays until the new dataset is whole. Without
    `beam`, processes of this machine do it.
    """
    absl.logging.set_verbosity(absl.logging.ERROR)  # TFDS tells much that is of no use here
    catalog.refuse_file(manual)
    if name in catalog.TEST_SETS:
        raise InputError(f"{name} is a test set, not to be trained on: `rvm data testset {name}` writes it")
    version = data_dir / name / str(catalog.builder_class(name).VERSION)
    if not overwrite and version.is_dir() and any(version.iterdir()):
        dataset = open_prepared(version)  # before TFDS looks at it, and raises whatever comes
        if isinstance(config, FolderConfig):
            _refuse_others(name, dataset, catalog.builder(name, data_dir, config))
        if licences.read(version) is None:  # it was prepared before licences were kept
            with contextlib.suppress(InputError):  # of data that others own and this user only reads, it stays unknown
                licences.write(catalog.licence(name), version)
        return f"{name} was there already: {_counts(dataset)}"
    builder = catalog.builder(name, data_dir, config, anew=overwrite)
    options = tfds.download.DownloadConfig(
        manual_dir=manual,
        compute_stats=tfds.download.ComputeStatsMode.SKIP,
        try_download_gcs=False,
        beam_runner=beam and beam.runner,
        beam_options=beam and beam.options,
    )
    with tempfile.TemporaryDirectory() as downloads:  # TFDS makes a folder for them, though there are none
        builder.download_and_prepare(download_dir=downloads, download_config=options)
    return f"{name}: {_counts(open_prepared(version))}"


def footage_steps(folder: Path, name: str, data_dir: Path, **options: Any) -> dict[str, Callable[[], str]]:
    """What builds the datasets of a folder in the plain layout: `footage/NAME`, perhaps `background_images/NAME`.

    For `options`, see `prepare`.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise InputError(f"{name!r} cannot name a dataset: use letters, digits, '_' and '-', such as --name shoot")
    errors = check_footage(folder).errors  # of both, before either is built
    if errors:
        raise InputError("\n".join([f"footage/{name} cannot be prepared:", *errors]))
    datasets = ["footage", *(["background_images"] if (folder / BACKGROUNDS).is_dir() else [])]
    config = FolderConfig(name=name, folder=folder)
    return {
        one: partial(prepare, one, folder, data_dir, config=config, **options)
        for one in (f"{dataset}/{name}" for dataset in datasets)
    }


def _refuse_others(name: str, dataset: PreparedDataset, builder: ClipBuilder) -> None:
    """Nobody is to train with what was made from other files than those of the folder that was given."""
    found = builder.find(builder.builder_config.folder)
    if not found.errors and dataset.source_fingerprint != source_fingerprint(found.splits):
        raise InputError(f"{name} was made from other files: give --force to build it anew, or another --name")


def _counts(dataset: PreparedDataset) -> str:
    parts = [
        f"{split} {len(table['name']):,} ({sum(table['length']):,} frames)" for split, table in dataset.tables.items()
    ]
    return f"{', '.join(parts)}, {dataset.bytes / 1e9:.2f} GB in {dataset.folder}"
