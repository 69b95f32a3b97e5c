"""The TFDS builder of BG-20k."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.bg_20k import archive
from data_pipelines.builders.clip_builder import BACKGROUND, ClipBuilder


class Builder(ClipBuilder):
    """Still backgrounds of high resolution, a record a picture."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Ask for BG-20k at {archive.PAGE}, read its agreement, and extract it into the manual folder: BG-20k/train and
    BG-20k/testval.
    """
    HOMEPAGE = archive.PAGE
    FEATURES = BACKGROUND
    CLIPS_PER_SHARD = 48
