"""The TFDS builder of VideoMatte240K."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import MATTING, ClipBuilder
from data_pipelines.builders.video_matte_240k import archive


class Builder(ClipBuilder):
    """VideoMatte240K, a record a frame, in two sizes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="sd", description="The shorter side has 432 pixels."),
        tfds.core.BuilderConfig(name="hd", description="The shorter side has 1080 pixels."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put the extracted folder {archive.ORIGINAL} (videos), or {archive.SD} or {archive.HD} (JPEGs), into the manual
    folder, each with train and test, and fgr and pha in them. It is for those whom its authors give it: {archive.PAGE}
    """
    FEATURES = MATTING
    HOMEPAGE = archive.PAGE
