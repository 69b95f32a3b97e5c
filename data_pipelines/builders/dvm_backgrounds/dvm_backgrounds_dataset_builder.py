"""The TFDS builder of background videos."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import BACKGROUND, ClipBuilder
from data_pipelines.builders.dvm_backgrounds import archive


class Builder(ClipBuilder):
    """The background videos of Deep Video Matting, a record a frame."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put the folder DVM/bg with train/0000.mp4 and so on, or the prepared BackgroundVideosTrain/train/0000/0000.jpg, into
    the manual folder, and the lists {" and ".join(archive.LISTS.values())}. The videos come from {archive.PAGE}
    """
    FEATURES = BACKGROUND
    HOMEPAGE = archive.PAGE
