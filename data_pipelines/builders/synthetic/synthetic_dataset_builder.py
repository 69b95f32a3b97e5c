"""The TFDS builder of synthetic clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.archives.clip import Found
from data_pipelines.builders.clip_builder import BACKGROUND, MATTING, SEGMENTATION, ClipBuilder
from data_pipelines.builders.synthetic import archive

FEATURES = {"matting": MATTING, "background": BACKGROUND, "segmentation": SEGMENTATION}


@dataclass(kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
    """What to draw, how much, and how large. Other numbers need another `name`: TFDS takes it for the dataset's.

    Attributes:
        role: One of `synthetic.ROLES`; says which features a record has.
        clips: How many in the split train.
        validation: How many in the split validation; none of them is in train.
        frames: The length of every clip; 1 for stills.
        height: In pixels.
        width: In pixels.
        seed: Another seed, other clips.
    """

    role: str
    clips: int
    validation: int
    frames: int = 1
    height: int = 256
    width: int = 320
    seed: int = 0


class Builder(ClipBuilder):
    """Clips made from a seed, a config for every role."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    HOMEPAGE = ""
    CLIPS_PER_SHARD = 8
    BUILDER_CONFIGS: ClassVar[list[SyntheticConfig]] = [
        SyntheticConfig(name=role, role=role, clips=clips, validation=validation, frames=frames)
        for role, clips, validation, frames in (
            ("matting_clips", 72, 8, 16),
            ("matting_images", 96, 8, 1),
            ("background_clips", 24, 4, 16),
            ("background_images", 64, 8, 1),
            ("segmentation_clips", 36, 4, 16),
            ("segmentation_images", 160, 8, 1),
        )
    ]
    builder_config: SyntheticConfig

    @property
    def FEATURES(self) -> tfds.features.FeaturesDict:  # noqa: N802 - the name in ClipBuilder
        """Those of the config's role."""
        return FEATURES[self.builder_config.role.split("_")[0]]

    def find(self, manual: Path) -> Found:
        config = self.builder_config
        return archive.find(
            config.role,
            {"train": config.clips, "validation": config.validation},
            seed=config.seed,
            frames=config.frames,
            height=config.height,
            width=config.width,
        )

    def _manual(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """Nothing is looked at."""
        return Path()
