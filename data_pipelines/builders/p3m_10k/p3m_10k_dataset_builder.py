"""The TFDS builder of P3M-10k."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import MATTING, ClipBuilder
from data_pipelines.builders.p3m_10k import archive


class Builder(ClipBuilder):
    """Portraits with alpha, faces blurred, their foregrounds estimated."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Ask for P3M-10k at {archive.PAGE}, read its agreement, and extract it into the manual folder: P3M-10k/train and
    P3M-10k/validation.
    """
    HOMEPAGE = archive.PAGE
    FEATURES = MATTING
    CLIPS_PER_SHARD = 48
