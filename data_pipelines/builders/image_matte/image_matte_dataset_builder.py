"""The TFDS builder of stills with alpha."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import MATTING, ClipBuilder


class Builder(ClipBuilder):
    """Stills of people with alpha, from Distinctions-646 and Adobe Image Matting."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the extracted folders Distinctions-646 and Combined_Dataset (Adobe Image Matting) into the manual folder, each
    on request from its owners, and the lists imagematte_train.txt, imagematte_valid.txt, d646_test.txt, aim_test.txt.
    """
    HOMEPAGE = "https://sites.google.com/view/deepimagematting"
    FEATURES = MATTING
    CLIPS_PER_SHARD = 24
