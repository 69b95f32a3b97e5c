"""Synthetic clips: the same bits again, soft edges, people that move, and nothing that a trivial rule could solve."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import synthetic
from data_pipelines.builders.synthetic import ROLES, archive
from data_pipelines.builders.synthetic.synthetic_dataset_builder import Builder, SyntheticConfig
from data_pipelines.synthetic.canvas import straight
from rvm_jax.errors import InputError
from tests.data_pipelines.building import FromArchive, build, opened, pixels

HEIGHT, WIDTH = 128, 160
CLIPS = 24
LAST = 8  # number of the last frame of a clip here, a third of a second in
KINDS = {
    "person": synthetic.person_clip,
    "background": lambda *clip: (synthetic.background_clip(*clip),),
    "segmentation": synthetic.segmentation_clip,
}


@pytest.fixture(scope="module")
def people() -> list[tuple[np.ndarray, np.ndarray]]:
    """The first and the last frame of some clips: foreground [2, H, W, 3] and alpha [2, H, W, 1]."""
    clips = [synthetic.person_clip(0, index, LAST + 1, HEIGHT, WIDTH) for index in range(CLIPS)]
    return [(foreground[[0, LAST]], alpha[[0, LAST]]) for foreground, alpha in clips]


@pytest.fixture(scope="module")
def composites(people) -> tuple[np.ndarray, np.ndarray]:
    """Those people before backgrounds: uint8 [2 * CLIPS, H, W, 3] and whether a pixel is a person's."""
    images, persons = [], []
    for index, (foreground, alpha) in enumerate(people):
        share = alpha / 255
        background = synthetic.background_clip(0, index, LAST + 1, HEIGHT, WIDTH)[[0, LAST]]
        images.append(np.uint8(foreground * share + background * (1 - share)))
        persons.append(alpha[..., 0] > 127)
    return np.concatenate(images), np.concatenate(persons)


def digest(kind: str, *clip: int) -> str:
    return hashlib.sha256(b"".join(pictures.tobytes() for pictures in KINDS[kind](*clip))).hexdigest()


def test_the_same_bits_again_and_in_another_process():
    names = list(itertools.product(KINDS, ((0, 3), (5, 1))))
    here = [digest(kind, *clip, 2, 64, 80) for kind, clip in names]
    assert here == [digest(kind, *clip, 2, 64, 80) for kind, clip in names]
    assert len(set(here)) == len(here)
    script = """
import hashlib
from data_pipelines import synthetic
for kind, clip in NAMES:
    pictures = getattr(synthetic, f"{kind}_clip")(*clip, 2, 64, 80)
    pictures = pictures if isinstance(pictures, tuple) else (pictures,)
    print(hashlib.sha256(b"".join(part.tobytes() for part in pictures)).hexdigest())
"""
    there = subprocess.run(
        [sys.executable, "-c", script.replace("NAMES", repr(names))],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.split() == here


@pytest.mark.parametrize("kind", KINDS)
def test_every_seed_and_index_is_another_clip(kind):
    clips = [KINDS[kind](seed, index, 1, 64, 80)[0].astype(int) for seed, index in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for one, other in itertools.combinations(clips, 2):
        assert np.abs(one - other).mean() > 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_clip_begins_with_the_shorter_one(kind):
    short, long = KINDS[kind](2, 7, 1, 64, 80), KINDS[kind](2, 7, 4, 64, 80)
    for one, other in zip(short, long, strict=True):
        assert one.dtype == np.uint8
        assert one.shape == (1, *other.shape[1:])
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (31, 200), (200, 17)])
def test_any_size(kind, height, width):
    for index in range(6):
        for pictures in KINDS[kind](3, index, 2, height, width):
            assert pictures.shape[:3] == (2, height, width)


def test_people_fill_a_good_part_of_the_frame_and_have_soft_edges(people):
    alphas = np.stack([alpha for _, alpha in people])
    inside = (alphas > 0).mean((1, 2, 3, 4))
    soft = ((alphas > 0) & (alphas < 255)).mean((1, 2, 3, 4)) / inside
    assert inside.min() > 0.03
    assert inside.max() < 0.85
    assert 0.05 < np.median(soft) < 0.4
    assert soft.min() > 0.03
    assert len(np.unique(alphas)) == 256


def test_hair_is_finer_than_a_pixel(people):
    """Soft pixels lie also where there is no edge of anything opaque: strands on their own."""
    alone = []
    for _, alpha in people:
        near_opaque = cv2.dilate(np.uint8(alpha[0, ..., 0] == 255), np.ones((5, 5), np.uint8))
        soft = (alpha[0, ..., 0] > 25) & (alpha[0, ..., 0] < 255)
        alone.append((soft & (near_opaque == 0)).sum())
    assert np.mean(np.array(alone) > 15) > 0.5


def test_color_goes_on_outward():
    """A premultiplied disc of two colours with an edge from 1 to 0: they are the same at all alphas, and outside."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    alpha = np.clip((40 - np.hypot(y - 60, x - 80)) / 12 + 0.5, 0, 1)[..., None]
    color = np.where(x[..., None] < 80, [200, 90, 40], [10, 60, 250])
    premultiplied = np.concatenate([color * alpha, 255 * alpha], -1).astype(np.float32)
    foreground, quantised = straight(premultiplied)
    np.testing.assert_array_equal(quantised, np.rint(premultiplied[..., 3:]))
    error = np.abs(foreground.astype(int) - color).max(-1)
    one_color = np.abs(x - 80) > 4
    assert error[one_color & (quantised[..., 0] > 25)].max() <= 1
    assert error[one_color & (quantised[..., 0] > 0)].max() <= 12
    assert error[50:70, 15:145][one_color[50:70, 15:145]].max() <= 24  # as far as 20 pixels outside


def test_foreground_at_soft_edges_has_the_colors_of_the_person(people):
    """Those of the opaque pixels nearby, a little darker at most: parts of the body are shaded round."""
    shifts = []
    for foreground, alpha in people:
        opaque = np.float32(alpha[0] == 255)
        count = cv2.blur(opaque, (9, 9))
        near = cv2.blur(foreground[0] * opaque, (9, 9)) / np.maximum(count, 1e-6)[..., None]
        soft = (alpha[0, ..., 0] > 0) & (alpha[0, ..., 0] < 200) & (count > 0.05)
        shifts.append(foreground[0][soft].mean() - near[soft].mean())
    assert np.abs(shifts).max() < 30
    assert abs(np.mean(shifts)) < 10


def test_people_move(people):
    moved = np.array([np.abs(alpha[0].astype(int) - alpha[1]).mean() / 255 for _, alpha in people])
    assert moved.min() > 0.005
    assert np.median(moved) > 0.04


def test_backgrounds_move_unless_the_camera_rests():
    moved = []
    for index in range(20):
        clip = synthetic.background_clip(0, index, LAST + 1, 64, 80).astype(int)
        moved.append(np.abs(clip[0] - clip[LAST]).mean())
    assert np.mean(np.array(moved) > 1) > 0.6


def test_trivial_rules_fail(composites):
    """Nothing everywhere, the usual place of people, and the colours of people, each learned from the other half."""
    images, persons = composites
    learned, judged = slice(0, CLIPS), slice(CLIPS, None)
    colors = (images // 32).astype(int) @ [64, 8, 1]
    total = np.bincount(colors[learned].ravel(), minlength=512)
    hits = np.bincount(colors[learned].ravel(), persons[learned].ravel(), minlength=512)
    guesses = {
        "nothing": np.zeros_like(persons[judged]),
        "place": np.broadcast_to(persons[learned].mean(0) > 0.5, persons[judged].shape),
        "colour": (hits > total / 2)[colors[judged]],
    }
    for guess in guesses.values():
        assert (guess != persons[judged]).mean() > 0.12
        overlap = (guess & persons[judged]).sum() / (guess | persons[judged]).sum()
        assert overlap < 0.6


def test_masks_follow_the_people_in_the_image():
    """The image changes at the edge of the mask more than elsewhere, in the first frame and the last."""
    ratios = []
    for index in range(12):
        image, mask = synthetic.segmentation_clip(0, index, LAST + 1, HEIGHT, WIDTH)
        assert set(np.unique(mask)) == {0, 255}
        for frame in (0, LAST):
            gray = image[frame].mean(-1)
            change = np.hypot(*np.gradient(gray))
            edge = cv2.morphologyEx(mask[frame], cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
            ratios.append(change[edge].mean() / change[~edge].mean())
    assert min(ratios) > 1.2
    assert np.median(ratios) > 3


def test_no_clip_is_in_two_datasets():
    drawn = set()
    for role in ROLES:
        found = archive.find(role, {"train": 3, "validation": 2}, seed=0, frames=1, height=32, width=32)
        for split, count in (("train", 3), ("validation", 2)):
            assert len({clip.name for clip in found.splits[split]}) == count
            drawn |= {clip.encode.args[1:3] for clip in found.splits[split]}
    assert len(drawn) == 5 * len(ROLES)


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("frames", 0), ("height", 8), ("width", 0)])
def test_sizes_that_cannot_be_drawn(name, value):
    numbers = {"seed": 0, "frames": 1, "height": 32, "width": 32} | {name: value}
    with pytest.raises(InputError, match=f"{name} is {value}, and .* or more is expected"):
        archive.find("matting_clips", {"train": 1, "validation": 1}, **numbers)


def tiny(role: str) -> SyntheticConfig:
    frames = 1 if role.endswith("images") else 2
    clips = 4 // frames
    return SyntheticConfig(
        name=f"tiny_{role}", role=role, clips=clips, validation=clips, frames=frames, height=32, width=40
    )


@pytest.mark.parametrize("role", ["matting_clips", "segmentation_images"])
def test_records_are_what_is_drawn(role, tmp_path):
    config = tiny(role)
    builder = Builder(config=config, data_dir=tmp_path)
    build(builder)
    kind = "person" if role == "matting_clips" else "segmentation"
    color, gray = ("foreground", "alpha") if role == "matting_clips" else ("image", "mask")
    for number, split in enumerate(("train", "validation")):
        clips = opened(builder, split)
        assert clips.lengths.tolist() == [config.frames] * config.clips
        for index, first in enumerate(clips.firsts):
            place = archive.BLOCK * (2 * ROLES.index(role) + number) + index
            colored, grays = KINDS[kind](0, place, config.frames, 32, 40)
            for frame in range(config.frames):
                record = clips.read(first + frame)
                assert record.keys() == {color, gray}
                np.testing.assert_array_equal(pixels(record[gray]), grays[frame, ..., 0])
                assert np.abs(pixels(record[color]).astype(int) - colored[frame]).mean() < 4


class SyntheticTest(FromArchive, tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012 - as TFDS declares it
        tiny(role) for role in ("matting_clips", "background_images", "segmentation_clips")
    ]
    SPLITS = {"train": 4, "validation": 4}  # noqa: RUF012

    @staticmethod
    def archive(folder):
        """TFDS asks for a folder, though nothing is read."""
