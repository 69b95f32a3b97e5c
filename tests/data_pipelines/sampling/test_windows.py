import itertools

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.sampling import random_draws, windows
from tests.data_pipelines.stamped import background_clips, in_map, matting_clips


def position(index, seed=3, stream="s"):
    return random_draws.Position(seed, stream, tf.cast(index, tf.int64))


def all_of(function, count):
    """The function of a position, for `count` positions, as one array."""
    dataset = tf.data.Dataset.range(count).map(lambda index: function(position(index)), num_parallel_calls=2)
    return next(dataset.batch(count).as_numpy_iterator())


def test_windows_start_at_every_stride_of_every_clip():
    table = windows.windows(matting_clips([7, 3, 1]), 3)
    np.testing.assert_array_equal(table.first, [0, 0, 0, 7, 10])
    np.testing.assert_array_equal(table.length, [7, 7, 7, 3, 1])
    np.testing.assert_array_equal(table.start, [0, 3, 6, 0, 0])


def test_frames_in_order_go_on_at_the_beginning():
    frames = windows.in_order(*map(np.int64, (10, 4, 2)), 5)
    np.testing.assert_array_equal(frames, [12, 13, 10, 11, 12])
    np.testing.assert_array_equal(in_map(lambda start: windows.in_order(10, 4, start, 5), np.int64(2)), frames)


def every_variation(first, length, start, frames):
    """All sequences that speeds, shifts and directions can give, by plain Python."""
    for speed, shift, backwards in itertools.product((0.5, 1, 2, 3, 4, 5), range(frames), (False, True)):
        numbers = [first + (start + shift + int(i * speed)) % length for i in range(frames)]
        yield (speed, shift, backwards), tuple(reversed(numbers) if backwards else numbers)


@pytest.mark.parametrize(("length", "frames"), [(97, 6), (4, 6), (1, 5), (97, 1), (1, 1)])
def test_varied_frames_are_at_a_speed_shifted_and_perhaps_backwards(length, frames):
    first, start = np.int64(20), np.int64(min(2, length - 1))
    drawn = all_of(lambda at: windows.varied(at, "clip", first, np.int64(length), start, frames), 600)
    possible = dict(every_variation(int(first), length, int(start), frames))
    by_sequence = {numbers: key for key, numbers in possible.items()}
    assert {tuple(row) for row in drawn} <= set(by_sequence)
    if (length, frames) == (97, 6):  # long enough for every variation to look different
        assert {by_sequence[tuple(row)] for row in drawn} == set(possible)


def test_every_speed_shift_and_direction_is_as_likely():
    drawn = all_of(lambda at: windows.varied(at, "clip", np.int64(0), np.int64(1000), np.int64(100), 6), 10_000)
    by_sequence = {numbers: key for key, numbers in every_variation(0, 1000, 100, 6)}
    speeds, shifts, backwards = zip(*(by_sequence[tuple(row)] for row in drawn), strict=True)
    for values, count in ((speeds, 6), (shifts, 6), (backwards, 2)):
        shares = np.unique(values, return_counts=True)[1] / 10_000
        assert len(shares) == count
        np.testing.assert_allclose(shares, 1 / count, atol=4 * np.sqrt(1 / count * (1 - 1 / count) / 10_000))


def test_a_clip_behind_starts_anywhere_that_leaves_room():
    clips, none = background_clips([20]), background_clips([])
    drawn = all_of(lambda at: windows.background(at, none, clips, 4, vary=False), 10_000)
    np.testing.assert_array_equal(drawn, drawn[:, :1] + np.arange(4))
    shares = np.bincount(drawn[:, 0], minlength=20) / 10_000
    np.testing.assert_allclose(shares[:16], 1 / 16, atol=4 * np.sqrt(1 / 16 * 15 / 16 / 10_000))
    assert not shares[16:].any()


def test_backgrounds_are_images_repeated_or_stretches_of_clips():
    images, clips = background_clips([1] * 5), background_clips([3, 40])
    drawn = all_of(lambda at: windows.background(at, images, clips, 4), 10_000)
    still = drawn[:, 0] < 5
    assert abs(still.mean() - 0.5) < 4 * 0.5 / np.sqrt(10_000)
    assert set(drawn[still].ravel()) == set(range(5))
    assert (drawn[still] == drawn[still][:, :1]).all()
    moving = drawn[~still]
    short = (moving < 8).all(axis=1)
    assert (moving[short] >= 5).all()
    assert (moving[~short] >= 8).all()  # a clip never runs into the next
    assert abs(short.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(moving))
    assert set(moving.ravel()) == set(range(5, 48))


@pytest.mark.parametrize("kind", ["images", "clips"])
def test_one_kind_of_background_is_enough(kind):
    given = {"images": background_clips([]), "clips": background_clips([])} | {kind: background_clips([1, 1])}
    drawn = all_of(lambda at: windows.background(at, given["images"], given["clips"], 3), 50)
    assert set(drawn.ravel()) == {0, 1}


def test_no_background_at_all_is_refused():
    with pytest.raises(ValueError, match="neither an image nor a clip"):
        windows.background(position(0), background_clips([]), background_clips([]), 3)


@pytest.mark.parametrize("size", [512, 2048, 256, 64])
def test_sizes_are_an_even_grid_between_half_and_whole(size):
    sizes = windows.sizes(size)
    assert len(set(np.diff(sizes))) == 1
    assert size // 2 < sizes[0] < sizes[-1] < size
    assert np.mean(sizes) == 0.75 * size


def test_shapes_are_independent_uniform_and_the_same_everywhere():
    height, width = all_of(lambda at: tf.stack(windows.shape(1, "low", at.index, 512)), 3000).T
    grid = windows.sizes(512)
    pairs = np.array([np.mean((height == h) & (width == w)) for h in grid for w in grid])
    np.testing.assert_allclose(pairs, 1 / 16, atol=4 * np.sqrt(1 / 16 * 15 / 16 / 3000))
    eagerly = windows.shape(1, "low", 77, 512)
    assert (int(eagerly[0]), int(eagerly[1])) == (height[77], width[77])
    other = [int(side) for batch in range(20) for side in windows.shape(1, "high", batch, 512)]
    assert other != [int(side) for batch in range(20) for side in (height[batch], width[batch])]
