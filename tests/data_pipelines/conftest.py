from pathlib import Path

import pytest

from data_pipelines.builders.synthetic.synthetic_dataset_builder import SyntheticConfig
from data_pipelines.tools import prepare

TINY = {
    "matting_clips": (3, 8),
    "matting_images": (2, 1),
    "background_clips": (2, 6),
    "background_images": (3, 1),
    "segmentation_clips": (2, 5),
    "segmentation_images": (4, 1),
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A data folder with `synthetic/tiny_…` for every role."""
    folder = tmp_path_factory.mktemp("prepared")
    for role, (clips, frames) in TINY.items():
        config = SyntheticConfig(
            name=f"tiny_{role}", role=role, clips=clips, validation=1, frames=frames, height=48, width=64
        )
        prepare.prepare(f"synthetic/tiny_{role}", folder, folder, config=config)
    return folder
