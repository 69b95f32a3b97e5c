"""The TFDS builder of SynthHuman."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import MATTING, ClipBuilder
from data_pipelines.builders.synthhuman import archive


class Builder(ClipBuilder):
    """Stills of rendered people with alpha, their foregrounds estimated. A config such as "0-5" is a share of it."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put SynthHuman_0000.zip and so on into the folder {archive.FOLDER} of the manual folder, as they are:
    `rvm data download synthhuman` does it.
    """
    HOMEPAGE = "https://microsoft.github.io/DAViD"
    FEATURES = MATTING
    CLIPS_PER_SHARD = 64
