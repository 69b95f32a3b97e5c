"""Clips in memory whose frames tell their number, and a way to run a function in both of its places."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from data_pipelines.pipelines.batches import Batch, Batches, arrays
from data_pipelines.pipelines.workers import Workers
from data_pipelines.records.clips import Clips


def png(picture: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def clips(lengths: Sequence[int], features: dict[str, Callable[[int], np.ndarray]]) -> Clips:
    """Clips of these lengths; `features` make each picture of frame `number`, counted over all clips."""

    def read(number: int) -> dict[str, bytes]:
        assert 0 <= number < sum(lengths)
        return {name: png(make(number)) for name, make in features.items()}

    return Clips([f"clip{i}" for i in range(len(lengths))], np.array(lengths, np.int64), read)


def flat(height: int, width: int, channels: int | None = 3, offset: int = 0) -> Callable[[int], np.ndarray]:
    """Pictures of one value: the frame's number."""
    shape = (height, width) if channels is None else (height, width, channels)
    return lambda number: np.full(shape, number + offset, np.uint8)


def matting_clips(lengths: Sequence[int], height: int = 24, width: int = 32) -> Clips:
    return clips(lengths, {"foreground": flat(height, width), "alpha": flat(height, width, None)})


def background_clips(lengths: Sequence[int], height: int = 24, width: int = 32, offset: int = 0) -> Clips:
    return clips(lengths, {"image": flat(height, width, offset=offset)})


def photo(height: int, width: int, channels: int | None = 3, seed: int = 0) -> np.ndarray:
    """A smooth picture with no pixel value near the ends of the range."""
    small = np.random.default_rng(seed).integers(40, 216, (height // 6 + 2, width // 6 + 2, channels or 1))
    layers = [Image.fromarray(layer.astype(np.uint8)).resize((width, height), 3) for layer in np.moveaxis(small, -1, 0)]
    picture = np.stack([np.asarray(layer) for layer in layers], -1)
    return picture if channels else picture[..., 0]


def first(endless: Batches, count: int, workers: Workers | None = None) -> list[Batch]:
    """The first batches; nothing goes on in the background afterwards."""
    return list(arrays(replace(endless, plans=endless.plans.take(count)), workers))


def in_map(function: Callable[..., Any], *inputs: Any) -> Any:
    """What `function` gives inside `Dataset.map`, as NumPy."""
    dataset = tf.data.Dataset.from_tensors(inputs).map(tf.autograph.experimental.do_not_convert(function))
    return next(iter(dataset.as_numpy_iterator()))


def everywhere(function: Callable[..., np.ndarray], picture: np.ndarray, *rest: Any, **named: Any) -> np.ndarray:
    """What a function of a picture gives, called eagerly; it must give the same inside `Dataset.map`."""
    eagerly = function(picture, *rest, **named)

    def mapped(tensor: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda array: function(array, *rest, **named), [tensor], tf.uint8, stateful=False)

    np.testing.assert_array_equal(in_map(mapped, picture), eagerly)
    return eagerly
