"""What matting draws for a clip: as often and as far as the recipe's table says."""

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.augment import motion
from data_pipelines.pipelines import matting
from data_pipelines.sampling import random_draws
from tests.data_pipelines.pipelines.test_matting import DATA


def every_plan(augmentation, count, frames=15):
    table = DATA.windows(frames)

    def drawn(index):
        return matting.plan(random_draws.Position(11, "train", index), DATA, table, frames, augmentation)

    dataset = tf.data.Dataset.range(count).map(drawn, num_parallel_calls=2, deterministic=True).batch(count)
    plans = next(dataset.as_numpy_iterator())
    once = drawn(tf.constant(3, tf.int64))
    for eagerly, mapped in zip(tf.nest.flatten(once), tf.nest.flatten(plans), strict=True):
        np.testing.assert_array_equal(eagerly, mapped[3])  # eager and mapped draws are the same
    return plans


@pytest.fixture(scope="module", params=["VM", "images"])
def table(request):
    """The columns of the recipe's table, and 10,000 plans."""
    column = ["VM", "images"].index(request.param)
    rows = {
        "move foreground": (0.3, 0.95),
        "move background": (0.15, 0.15),
        "move all": (0.15, 0.15),
        "flip foreground": (0.5, 0.5),
        "flip background": (0.5, 0.5),
        "noise": (0.1, 0.05),
        "drift foreground": (0.3, 0.3),
        "drift background": (0.3, 0.3),
        "grayscale": (0.02, 0.03),
        "sharpness": (0.1, 0.05),
        "blur foreground": (0.02 / 3, 0.02 / 3),
        "blur background": (0.02 / 3, 0.02 / 3),
        "blur all": (0.02 / 3, 0.02 / 3),
        "pause": (0.03, 0.03),
    }
    plans = every_plan([matting.VIDEO, matting.IMAGES][column], 10_000)
    return {name: row[column] for name, row in rows.items()}, plans


def test_everything_happens_as_often_as_the_table_says(table):
    probabilities, plans = table
    moved = {who: (path["ends"] != motion.UNMOVED).any((1, 2)) for who, path in plans["moves"].items()}
    happened = {f"move {who}": value for who, value in moved.items()}
    happened |= {f"flip {who}": value for who, value in plans["flip"].items()}
    happened["noise"] = plans["noise"]["foreground"]["deviation"] > 0
    np.testing.assert_array_equal(happened["noise"], plans["noise"]["background"]["deviation"] > 0)
    happened |= {f"drift {who}": drift["ends"].any((1, 2)) for who, drift in plans["drift"].items()}
    happened["grayscale"] = plans["grayscale"]
    happened["sharpness"] = plans["sharpness"] != 1
    happened |= {f"blur {who}": path["ends"].any(1) for who, path in plans["blur"].items()}
    paused = (plans["pause"] != np.arange(15)).any(1)
    # Of all (start, length) drawn, those of length 1 show nothing: the mean of 1 / (15 - start) over all starts.
    unseen = np.mean([1 / (15 - start) for start in range(15)])
    happened["pause"], probabilities["pause"] = paused, probabilities["pause"] * (1 - unseen)
    assert happened.keys() == probabilities.keys()
    for name, probability in probabilities.items():
        assert abs(happened[name].mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / 10_000), name


def assert_uniform(values, low, high, what):
    """Within [low, high], reaching close to both ends, with the mean of a uniform distribution."""
    width, count = high - low, len(values)
    assert low - 1e-5 <= values.min() <= low + 8 * width / count, what
    assert high - 8 * width / count <= values.max() <= high + 1e-5, what
    assert abs(values.mean() - (low + high) / 2) < 4 * width / np.sqrt(12 * count), what
    quarters = np.histogram(values, 4, (low, high))[0] / count
    np.testing.assert_allclose(quarters, 0.25, atol=4.5 * np.sqrt(0.25 * 0.75 / count), err_msg=what)


def test_poses_stay_in_their_ranges(table):
    _, plans = table
    ranges = [(-10, 10), (-0.1, 0.1), (-0.1, 0.1), None, (-5, 5)]
    for who, scale in (("foreground", (0.5, 1.0)), ("background", (1.0, 1.5))):
        for part, bounds in enumerate(ranges):
            assert_uniform(plans["placed"][who][:, part], *(bounds or scale), f"{who} {part}")
    for who, path in plans["moves"].items():
        ends = path["ends"][(path["ends"] != motion.UNMOVED).any((1, 2))]
        for end in (0, 1):
            for part, bounds in enumerate(ranges):
                assert_uniform(ends[:, end, part], *(bounds or (0.9, 1.1)), f"{who} {part}")
        assert np.abs(np.corrcoef(ends.reshape(len(ends), 10).T) - np.eye(10)).max() < 5 / np.sqrt(len(ends))


def test_aspects_stay_in_their_range(table):
    for who, aspect in table[1]["aspect"].items():
        assert_uniform(np.log(aspect), np.log(0.9), np.log(1.1), who)


def test_noise_keeps_to_its_range(table):
    for who, noise in table[1]["noise"].items():
        happened = noise["deviation"] > 0
        grain, deviation = noise["grain"][happened], noise["deviation"][happened]
        share = np.bincount(noise["grain"], minlength=5)[1:] / 10_000
        np.testing.assert_allclose(share, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 10_000))
        assert_uniform(deviation * grain, 0, 0.2, who)
        assert abs(noise["gray"].mean() - 0.5) < 0.02
    keys = {tuple(key) for noise in table[1]["noise"].values() for key in noise["key"]}
    assert len(keys) == 20_000


def test_colors_drift_between_normal_ends_and_at_most_a_fifth_of_the_way(table):
    for drift in table[1]["drift"].values():
        begin, end = np.moveaxis(drift["ends"][drift["ends"].any((1, 2))], 1, 0)
        deviations = np.array([0.1, 0.1, 0.1, 0.01])
        np.testing.assert_allclose(begin.std(0), deviations, rtol=5 / np.sqrt(2 * len(begin)))
        assert (np.abs(begin.mean(0)) < 4 * deviations / np.sqrt(len(begin))).all()
        # From one normal end 0 to 20 % of the way to another: the step has variance 2 · 0.2² / 3 of the ends'.
        np.testing.assert_allclose((end - begin).std(0), deviations * np.sqrt(2 * 0.04 / 3), rtol=0.12)
        directions = (end - begin) / deviations
        assert np.linalg.norm(directions, axis=1).max() < 0.2 * np.sqrt(2) * 5.5


def test_sharpness_and_blur_keep_to_their_ranges(table):
    _, plans = table
    assert_uniform(plans["sharpness"][plans["sharpness"] != 1], 0, 8, "sharpness")
    # Some 67 clips of 10,000 are blurred in each of three ways: the ends of all are a sample large enough.
    ends = np.concatenate([path["ends"][path["ends"].any(1)] for path in plans["blur"].values()])
    for end in (0, 1):
        assert_uniform(ends[:, end], 0, 10, f"blur {end}")
    assert abs(np.corrcoef(ends.T)[0, 1]) < 4 / np.sqrt(len(ends))
