"""The TFDS builder of PASS as backgrounds."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import BACKGROUND, ClipBuilder
from data_pipelines.builders.pass_backgrounds import archive


class Builder(ClipBuilder):
    """Still backgrounds without people. A config such as "0" or "0-2" is a share of them."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release, of PASS 3.0."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put PASS.0.tar and so on into the folder {archive.FOLDER} of the manual folder, as they are:
    `rvm data download pass_backgrounds` does it.
    """
    HOMEPAGE = "https://www.robots.ox.ac.uk/~vgg/data/pass/"
    FEATURES = BACKGROUND
    CLIPS_PER_SHARD = 512
