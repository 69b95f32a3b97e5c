"""The TFDS builder of pictures of people with masks."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import SEGMENTATION, ClipBuilder


class Builder(ClipBuilder):
    """The pictures of Supervisely Person; the mask is the union of all persons."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put Supervisely Person into the manual folder, as supervisely_person/img and supervisely_person/seg (pictures and
    masks of equal names), or as Supervisely exports it: supervisely_person/DATASET/img/NAME and .../ann/NAME.json.
    """
    HOMEPAGE = "https://supervisely.com"
    FEATURES = SEGMENTATION
    CLIPS_PER_SHARD = 48
