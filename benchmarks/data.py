"""The matting pipeline against a plain tf.data port of the recipe, in one run, and where its time goes.

It is measured in threads of one process, and with one and two worker processes.

    python benchmarks/data.py [--json results.json] [--rounds 3] [--batches 6] [--background-size 432]

Both read the same prepared records: synthetic people of 768×432, JPEG with PNG alphas, on backgrounds half still and
half moving. Both make clips of T = 15 frames from squares of S = 512 with all augmentation at the recipe's
probabilities. The plain port does as a first attempt would: it decodes to float, resamples for every affine, then for
the square, then for the shape of the step, and changes colours with `tf.image`. They take turns, round after round; a
rate is frames a second of one core, from the processor time of the whole process, so other load on the machine counts
little.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from data_pipelines.builders.synthetic.synthetic_dataset_builder import SyntheticConfig
from data_pipelines.pipelines import datasets, matting
from data_pipelines.pipelines.workers import Workers
from data_pipelines.records.clips import concatenate
from data_pipelines.tools import bench, prepare

FRAMES, SIZE, BATCH = 15, 512, 4
PROCESSES = {"threads": 0, "1 process": 1, "2 processes": 2}
FOREGROUND = (432, 768)


def make_data(folder: Path, clips: int, background_height: int) -> matting.MattingData:
    """Prepare a small synthetic set of the sizes of the real one."""
    roles = {
        "matting_clips": (clips, 30, FOREGROUND),
        "background_clips": (clips, 30, (background_height, background_height * 16 // 9)),
        "background_images": (4 * clips, 1, (background_height, background_height * 16 // 9)),
    }
    for role, (count, frames, (height, width)) in roles.items():
        config = SyntheticConfig(
            name=f"large_{role}", role=role, clips=count, validation=1, frames=frames, height=height, width=width
        )
        prepare.prepare(f"synthetic/{config.name}", folder, folder, config=config)
    backgrounds = ["synthetic/large_background_clips", "synthetic/large_background_images"]
    return datasets.open_matting(["synthetic/large_matting_clips"], backgrounds, "train", folder)


# The plain port


def plain(data: matting.MattingData) -> tf.data.Dataset:
    """Batches as a first attempt would make them. Its random numbers are TensorFlow's global ones."""
    backgrounds = concatenate([data.background_images, data.background_clips])

    def read(_: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        clip = tf.random.uniform([], 0, len(data.foregrounds), tf.int64)
        start = tf.random.uniform([], 0, int(data.foregrounds.lengths.min()) - FRAMES, tf.int64)
        still = tf.random.uniform([]) < 0.5
        image = tf.random.uniform([], 0, len(data.background_images), tf.int64)
        film = len(data.background_images) + tf.random.uniform([], 0, int(data.background_clips.lengths[0]), tf.int64)

        def records(clip: Any, start: Any, still: Any, image: Any, film: Any) -> tuple[Any, Any, Any]:
            first = data.foregrounds.firsts[clip] + start
            found = [data.foregrounds.read(int(first + i)) for i in range(FRAMES)]
            behind = [backgrounds.read(int(image if still else film + i)) for i in range(FRAMES)]
            pictures = (r["foreground"] for r in found), (r["alpha"] for r in found), (r["image"] for r in behind)
            return tuple(list(part) for part in pictures)  # type: ignore[return-value]

        return tuple(tf.numpy_function(records, [clip, start, still, image, film], [tf.string] * 3))

    def decode(foreground: tf.Tensor, alpha: tf.Tensor, background: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def pictures(encoded: tf.Tensor, channels: int) -> tf.Tensor:
            def one(picture: tf.Tensor) -> tf.Tensor:
                return tf.image.convert_image_dtype(tf.io.decode_image(picture, channels), tf.float32)

            made = tf.map_fn(one, encoded, fn_output_signature=tf.float32)
            made.set_shape([FRAMES, None, None, channels])
            return made

        return tf.concat([pictures(foreground, 3), pictures(alpha, 1)], -1), pictures(background, 3)

    def augment(clip: tf.Tensor, background: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        clip = _sometimes(0.3, _moving, clip)
        background = _sometimes(0.15, _moving, background)
        clip, background = _sometimes(0.15, lambda pair: (_moving(pair[0]), _moving(pair[1])), (clip, background))
        clip, background = _affine(clip, 0.5, 1.0), _affine(background, 1.0, 1.5)
        clip, background = _square(clip), _square(background)
        clip = _sometimes(0.5, tf.image.flip_left_right, clip)
        background = _sometimes(0.5, tf.image.flip_left_right, background)

        foreground, alpha = clip[..., :3], clip[..., 3:]
        foreground, background = _sometimes(0.1, lambda x: (_noise(x[0]), _noise(x[1])), (foreground, background))
        foreground, background = _sometimes(0.3, _jitter, foreground), _sometimes(0.3, _jitter, background)
        foreground, alpha, background = _sometimes(
            0.1, lambda layers: tuple(_filtered(layer, _SMOOTH) for layer in layers), (foreground, alpha, background)
        )
        foreground = _sometimes(0.02, lambda x: _filtered(x, _gaussian(5.0)), foreground)
        return tf.concat([foreground, alpha], -1), background

    def shaped(clip: tf.Tensor, background: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        both = tf.concat([clip, background], -1)
        both = tf.image.resize(both, [448, 448])[:, :384]  # the mean area of a step's shape
        made = tf.cast(tf.round(tf.clip_by_value(both, 0, 1) * 255), tf.uint8)
        return made[..., :4], made[..., 4:]

    dataset = tf.data.Dataset.range(tf.int64.max)
    for step in (read, decode, augment, shaped):
        dataset = dataset.map(step, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(BATCH).prefetch(2)


def _sometimes(probability: float, change: Any, value: Any) -> Any:
    return tf.cond(tf.random.uniform([]) < probability, lambda: change(value), lambda: value)


def _affine(frames: tf.Tensor, low: float, high: float, poses: int = 1) -> tf.Tensor:
    """Each frame through a random affine of its own, or all through one."""
    angle = tf.random.uniform([poses], -0.17, 0.17)
    scale = 1 / tf.random.uniform([poses], low, high)
    zero, shift = tf.zeros([poses]), tf.random.uniform([2, poses], -40.0, 40.0)
    rows = [tf.cos(angle) * scale, -tf.sin(angle), shift[0], tf.sin(angle), tf.cos(angle) * scale, shift[1], zero, zero]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=frames,
        transforms=tf.stack(rows, -1),
        output_shape=tf.shape(frames)[1:3],
        interpolation="BILINEAR",
        fill_value=0.0,
    )


def _moving(frames: tf.Tensor) -> tf.Tensor:
    return _affine(frames, 0.9, 1.1, FRAMES)


def _square(frames: tf.Tensor) -> tf.Tensor:
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    side = tf.minimum(height, width)
    cut = frames[:, (height - side) // 2 :, (width - side) // 2 :][:, :side, :side]
    return tf.image.resize(cut, [SIZE, SIZE])


def _noise(frames: tf.Tensor) -> tf.Tensor:
    return frames + tf.random.normal(tf.shape(frames), 0.0, 0.1)


def _jitter(frames: tf.Tensor) -> tf.Tensor:
    amounts = tf.random.normal([4], 0.0, 0.1)
    frames = tf.image.adjust_brightness(frames, amounts[0])
    frames = tf.image.adjust_contrast(frames, 1 + amounts[1])
    frames = tf.image.adjust_saturation(frames, 1 + amounts[2])
    return tf.image.adjust_hue(frames, tf.clip_by_value(amounts[3] / 10, -1.0, 1.0))


_SMOOTH = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def _gaussian(deviation: float) -> tf.Tensor:
    line = tf.exp(-tf.square(tf.range(-10.0, 11.0)) / (2 * deviation**2))
    return line[:, None] * line[None] / tf.reduce_sum(line) ** 2


def _filtered(frames: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    channels = frames.shape[-1]
    kernels = tf.tile(kernel[..., None, None], [1, 1, channels, 1])
    return tf.nn.depthwise_conv2d(frames, kernels, [1, 1, 1, 1], "SAME")


# Measuring


def rate_of_plain(data: matting.MattingData, batches: int) -> bench.Rate:
    iterator = iter(plain(data))
    next(iterator), next(iterator)
    clock, core = time.perf_counter(), time.process_time()
    made = [[int(tf.size(part)) for part in next(iterator)] for _ in range(batches)]
    clock, core = time.perf_counter() - clock, time.process_time() - core
    return bench.Rate(batches * BATCH * FRAMES, clock, core, sum(map(sum, made)) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=6, help="of four clips, in a round")
    parser.add_argument("--clips", type=int, default=8, help="of each kind, in the data")
    parser.add_argument("--background-size", type=int, default=432, metavar="HEIGHT")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder), options.clips, options.background_size)
        parts = bench.costs(data, frames=FRAMES, size=SIZE, clips=options.batches * BATCH)
        print(bench.table(parts), flush=True)
        rates: dict[str, list[bench.Rate]] = {name: [] for name in (*PROCESSES, "plain tf.data")}
        for _ in range(options.rounds):
            for name, processes in PROCESSES.items():
                with Workers(processes) as workers:
                    rate = bench.whole(
                        data, frames=FRAMES, size=SIZE, batch=BATCH, batches=options.batches, workers=workers
                    )
                rates[name].append(rate)
            rates["plain tf.data"].append(rate_of_plain(data, options.batches))
    rows = {}
    print(f"\n{'contender':16}{'frames/s':>10}{'cores':>7}{'MB/s':>7}{'frames/s a core':>17}{'ratio':>7}")
    base = statistics.median(rate.per_core for rate in rates["plain tf.data"])
    for name, measured in rates.items():
        row = sorted(measured, key=lambda rate: rate.per_core)[len(measured) // 2]
        ratio = row.per_core / base
        rows[name] = {"per_second": row.per_second, "per_core": row.per_core, "cores": row.cores, "ratio": ratio}
        megabytes = row.megabytes / row.seconds
        print(f"{name:16}{row.per_second:10.0f}{row.cores:7.1f}{megabytes:7.0f}{row.per_core:17.0f}{ratio:7.2f}")
    if options.json:
        stages = {name: vars(part) for name, part in parts.items()}
        options.json.write_text(json.dumps({"rates": rows, "stages": stages}, indent=1))


if __name__ == "__main__":
    main()
