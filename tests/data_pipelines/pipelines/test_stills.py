"""Stills for networks without memory: people before backgrounds, with trimaps or with imperfect clean plates."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.augment import motion
from data_pipelines.pipelines.batches import Slice
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.pipelines.stills import pixels, plan
from data_pipelines.sampling.random_draws import Position
from tests.data_pipelines import stamped

PHOTO = stamped.photo(48, 64)
DISK = (np.hypot(*(np.mgrid[:48, :64] - np.array([24, 32])[:, None, None])) < 14).astype(np.uint8) * 255
PEOPLE = stamped.clips(
    [3, 4], {"foreground": lambda number: 255 - PHOTO - np.uint8(number), "alpha": lambda number: DISK}
)
DATA = MattingData(PEOPLE, stamped.clips([1] * 5, {"image": lambda number: PHOTO + np.uint8(number)}))
STILL = replace(plan.STILLS, blur=0.0, sharpness=0.0, jitter=(0.0, 0.0, 0.0, 0.0))


FOUR = Slice(4)


def batches(kind, count, part=FOUR, **others):
    asked = {"seed": 3, "stream": "stage 1 stills", "size": 64, "buckets": 0, **others}
    if kind == "trimap":
        return stamped.first(plan.trimap_batches(DATA, part, unknown=(2, 2), **asked), count)
    return stamped.first(plan.plate_batches(DATA, part, **asked), count)


@pytest.mark.parametrize("kind", ["trimap", "plate"])
def test_hosts_and_parts_have_the_samples_of_one(kind):
    whole = batches(kind, 3)
    for number, batch in enumerate(batches(kind, 2, Slice(4, start=1)), 1):
        for name, layer in batch.items():
            np.testing.assert_array_equal(layer, whole[number][name], err_msg=name)
    halves = [batches(kind, 1, Slice(4, host=host, hosts=2)) for host in range(2)]
    for name, layer in whole[0].items():
        assert layer.shape[:4] == (4, 1, 64, 64)
        np.testing.assert_array_equal(np.concatenate([half[0][name] for half in halves]), layer, err_msg=name)


def test_a_trimap_is_the_matte_but_around_edges():
    for batch in batches("trimap", 2):
        alpha, trimap = batch["alpha"][..., 0], batch["trimap"][..., 0]
        assert set(np.unique(trimap)) == {0, pixels.UNKNOWN, 255}
        known = trimap != pixels.UNKNOWN
        np.testing.assert_array_equal(trimap[known], alpha[known])
        assert 0.01 < 1 - known.mean() < 0.4


@pytest.mark.parametrize("unknown", [1, 3, 8])
def test_the_unknown_band_is_as_wide_as_asked(unknown):
    """A straight edge without a soft pixel, at column 20."""
    alpha = np.zeros((32, 40), np.uint8)
    alpha[:, 20:] = 255
    band = np.flatnonzero(pixels.trimap(alpha, unknown)[16] == pixels.UNKNOWN)
    assert [*band] == [*range(20 - unknown, 20 + unknown)]


def perfect(batch):
    share = batch["alpha"] / 255.0
    return np.rint(batch["foreground"] * share + batch["plate"] * (1 - share))


def test_a_plate_is_the_background_unless_something_happens(monkeypatch):
    still = {"deviation": tf.constant(0.0), "grain": tf.constant(1), "gray": tf.constant(False), "key": tf.zeros(2)}
    nothing = {
        "shadow": {"strength": tf.constant(0.0), "pose": tf.constant(motion.UNMOVED), "blur": tf.constant(20)},
        "sensor noise": dict.fromkeys(("source", "plate"), still),
        "plate jitter": tf.zeros(4),
        "plate pose": tf.constant(motion.UNMOVED),
    }
    imperfect = batches("plate", 4, augmentation=STILL)
    monkeypatch.setattr(plan, "_imperfections", lambda at: nothing)
    for batch in batches("plate", 1, augmentation=STILL):
        assert np.abs(batch["source"] - perfect(batch)).max() <= 1
    assert all(np.abs(batch["source"] - perfect(batch)).max() > 1 for batch in imperfect)


def test_imperfections_happen_as_often_as_published():
    places = tf.data.Dataset.range(4000).map(lambda number: plan._imperfections(Position(1, "stills", number)))
    drawn = next(places.batch(4000).as_numpy_iterator())
    for happened, probability in (
        (drawn["shadow"]["strength"] > 0, 0.3),
        (drawn["sensor noise"]["source"]["deviation"] > 0, 0.4),
        (drawn["sensor noise"]["plate"]["deviation"] > 0, 0.4),
        (drawn["plate jitter"].any(1), 0.8),
        ((drawn["plate pose"] != np.float32(motion.UNMOVED)).any(1), 0.3),
    ):
        assert abs(happened.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / 4000)
    assert drawn["shadow"]["strength"].max() <= 0.3
    assert drawn["sensor noise"]["source"]["deviation"].max() <= 0.03


def test_a_shadow_darkens_by_its_strength_and_nothing_is_brighter():
    white, alpha = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64), 255, np.uint8)
    shadow = {"strength": np.float32(0.2), "pose": np.float32(motion.UNMOVED), "blur": np.int64(20)}
    assert np.unique(pixels.shaded(white, alpha, shadow, 512)) == [200 - 51]


def test_a_plate_is_moved_forwards_and_recoloured():
    dot = np.zeros((40, 40, 3), np.uint8)
    dot[20, 20] = 255
    shifted = pixels.moved(dot, np.array([0, 0.1, 0, 1, 0], np.float32))
    assert np.argwhere(shifted[..., 0]).tolist() == [[20, 24]]
    gray = np.full((4, 4, 3), 100, np.uint8)
    assert np.unique(pixels.recoloured(gray, np.array([0.1, 0, 0, 0], np.float32))).tolist() == [126]


def test_people_and_backgrounds_are_paired_at_random():
    drawn = [
        number for batch in batches("plate", 30, augmentation=STILL) for number in batch["plate"].mean((1, 2, 3, 4))
    ]
    assert len({round(float(value), 1) for value in drawn}) > 60
