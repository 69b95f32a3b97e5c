"""The TFDS builder of your own footage."""

from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import MATTING, ClipBuilder


class Builder(ClipBuilder):
    """Your own foregrounds and alphas, a record a frame, in their own size.

    `Builder(config=FolderConfig(name="mine", folder=Path("...")))` is prepared as `footage/mine`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    FEATURES = MATTING
