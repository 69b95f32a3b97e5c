"""Frames and sound in chunks."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from rvm_jax.video.backgrounds import open_background
from rvm_jax.video.frames import Frame
from rvm_jax.video.streaming.chunks import read_chunks


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("length", [1, 2])
def test_the_sound_after_the_last_frame_is_there(at_once, length):
    frames = [Frame(np.full((2, 2, 3), number, np.uint8), number, 1, str(number)) for number in range(2)]
    video = SimpleNamespace(items=["a", frames[0], "b", frames[1], "c", "d"], time_base=Fraction(1))
    with open_background("transparent", 2, 2) as background:
        chunks = list(read_chunks(video, length, background, at_once=at_once))
    assert [frame.name for chunk in chunks for frame in chunk.frames] == ["0", "1"]
    assert [packet for chunk in chunks for packet in chunk.sound] == ["a", "b", "c", "d"]
    assert {chunk.pixels.shape for chunk in chunks} == {(length, 2, 2, 3)}
