"""What the tests of still and segmentation datasets share: pictures of noise, and a built dataset's own bytes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def save(path: Path, mode: str, seed: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    """A picture of noise; `size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


def decoded(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def built(builder_class: Any, manual: Path, data_dir: Path) -> dict[str, list[dict[str, bytes]]]:
    """The records of every split as they lie in the array_record files of a dataset that is built and opened anew."""
    import tensorflow_datasets as tfds

    builder = builder_class(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    opened = tfds.builder_from_directory(builder.data_path)
    raw = {name: tfds.decode.SkipDecoding() for name in opened.info.features}
    splits = {}
    for split in opened.info.splits:
        splits[split] = list(opened.as_data_source(split, decoders=raw))
        assert opened.info.metadata["clips"][split]["length"]
    return splits
