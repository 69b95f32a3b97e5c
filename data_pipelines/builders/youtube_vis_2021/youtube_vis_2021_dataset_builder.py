"""The TFDS builder of videos of people with masks."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import SEGMENTATION, ClipBuilder


class Builder(ClipBuilder):
    """The videos of YouTubeVIS 2021 with a person in them; the mask is the union of all persons."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Extract train.zip of YouTube-VIS 2021 (https://youtube-vos.org/dataset/vis/, after registering) into the manual
    folder, so that it holds youtube_vis_2021/train/instances.json and youtube_vis_2021/train/JPEGImages.
    """
    HOMEPAGE = "https://youtube-vos.org/dataset/vis/"
    FEATURES = SEGMENTATION
