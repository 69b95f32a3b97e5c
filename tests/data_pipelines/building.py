"""Building a dataset from a miniature archive, and looking at what came out."""

import io
import tempfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data_pipelines.records.clips import Clips, open_clips
from tests.data_pipelines.fake_archives import number_in


def build(builder: tfds.core.DatasetBuilder, manual: Path | None = None) -> None:
    config = tfds.download.DownloadConfig(manual_dir=manual, compute_stats=tfds.download.ComputeStatsMode.SKIP)
    builder.download_and_prepare(download_config=config, file_format="array_record")


def opened(builder: tfds.core.DatasetBuilder, split: str) -> Clips:
    dataset = f"{builder.name}/{builder.builder_config.name}" if builder.builder_config else builder.name
    return open_clips([dataset], split, Path(builder.data_dir_root))


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def numbers(clips: Clips, feature: str) -> dict[str, list[int]]:
    """The numbers that the frames of each clip show, by the last part of its name."""
    ranges = zip(clips.names, clips.firsts, clips.lengths, strict=True)
    return {
        name: [number_in(pixels(clips.read(frame)[feature])) for frame in range(first, first + length)]
        for name, first, length in ranges
    }


class OfArrayRecords:
    """For TFDS's test of a builder, which by itself reads no array_record."""

    def _assertAsDataset(self, builder):  # noqa: N802 - TFDS's name
        seen = set()
        for split, count in self.SPLITS.items():
            examples = list(builder.as_data_source(split))
            assert len(examples) == count
            for example in examples:
                assert example.keys() == builder.info.features.keys()
                for name, feature in builder.info.features.items():
                    assert example[name].dtype == feature.np_dtype
                    assert example[name].shape[-1] == feature.shape[-1]
            digests = {b"".join(example[name].tobytes() for name in sorted(example)) for example in examples}
            assert not digests & seen
            seen |= digests


class FromArchive(OfArrayRecords):
    """For TFDS's test of a builder: what the test's `archive` puts into a folder is what the builder is given."""

    @classmethod
    def archive(cls, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.EXAMPLE_DIR = folder.name
        cls.archive(Path(folder.name))
        super().setUpClass()
