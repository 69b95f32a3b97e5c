"""People in pictures, as a network sees them."""

from typing import NamedTuple

import numpy as np
import pytest

from train.check import people


class Result(NamedTuple):
    alpha: np.ndarray
    logits: np.ndarray


class Bright:
    """Weights of a network that takes what is bright for people."""

    variables = ()

    def __init__(self, for_matting_alone):
        self.for_matting_alone = for_matting_alone

    def network(self):
        return self

    def apply(self, variables, frames, segmentation):
        assert segmentation != self.for_matting_alone
        seen = frames[..., :1]
        return Result(alpha=seen, logits=0 * seen - 1) if self.for_matting_alone else Result(0 * seen, seen - 0.5)


@pytest.mark.parametrize("for_matting_alone", [False, True])
def test_each_picture_has_its_share(for_matting_alone):
    pictures = np.zeros((people.AT_ONCE + 1, 8, 10, 3), np.uint8)
    pictures[2, :4] = 255
    pictures[-1, :, :2] = 200
    found = people.seen(Bright(for_matting_alone), pictures)
    np.testing.assert_allclose(found, [0, 0, 0.5, *[0] * (people.AT_ONCE - 3), 0.2], atol=1e-6)
