"""The TFDS builder of still backgrounds."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.background_images import archive
from data_pipelines.builders.clip_builder import BACKGROUND, ClipBuilder


class Builder(ClipBuilder):
    """Still backgrounds, a record a picture.

    Those of a folder of its own, `Builder(config=FolderConfig(name="mine", folder=...))`, are `background_images/mine`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put pictures without people into the folder {archive.FOLDER} of the manual folder, thousands of them, in whatever
    folders below it.
    """
    FEATURES = BACKGROUND
    CLIPS_PER_SHARD = 48
