"""People-like mattes that move, made from a seed: what the demo and the tests train on, with nothing downloaded.

Every clip is a pure function of (seed, index), and each of its frames of the frame's number, at 24 frames a second: a
longer clip begins with the shorter one, and a still is a clip of one frame. The same machine gives the same bits again;
others may round a pixel otherwise, since OpenCV computes as the processor does best.
"""

import cv2
import numpy as np

from data_pipelines.synthetic import backgrounds, people
from data_pipelines.synthetic.canvas import OPAQUE, Pixels, quantised, straight

FRAMES_PER_SECOND = 24
PERSON, BACKGROUND, SEGMENTATION = range(3)  # streams of random numbers


def person_clip(seed: int, index: int, frames: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    """One person or two: foreground [frames, height, width, 3], which goes on outward, and alpha [..., 1]."""
    return _people(_generator(seed, PERSON, index), frames, height, width)


def background_clip(seed: int, index: int, frames: int, height: int, width: int) -> Pixels:
    """A place without people [frames, height, width, 3], most often through a moving camera."""
    return _background(_generator(seed, BACKGROUND, index), frames, height, width)


def segmentation_clip(seed: int, index: int, frames: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    """People before a background: image [frames, height, width, 3] and mask [..., 1] of 0 and 255."""
    rng = _generator(seed, SEGMENTATION, index)
    foreground, alpha = _people(rng, frames, height, width)
    background = _background(rng, frames, height, width)
    share = alpha / np.float32(OPAQUE)
    composite = foreground * share + background * (1 - share)
    contrast = np.float32(rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3))
    image = (composite - 128) * contrast + np.float32(rng.uniform(108, 148))
    return quantised(image), np.where(alpha > OPAQUE // 2, np.uint8(OPAQUE), np.uint8(0))


def _generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, 0, stream]))


def _people(rng: np.random.Generator, frames: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    places = [(0.38, 0.62)] if rng.uniform() < 0.7 else [(0.2, 0.42), (0.58, 0.8)]
    persons = [people.design(rng, height, width, place) for place in places]
    zoom, rate, phase = rng.uniform(0, 0.12), rng.uniform(0.5, 1.5), rng.uniform(0, 2 * np.pi)
    pan = 0.03 * width * rng.uniform(-1, 1, 2)
    defocus = height / 256 * rng.uniform(0.3, 1.0) * (rng.uniform() < 0.35)
    foreground = np.empty((frames, height, width, 3), np.uint8)
    alpha = np.empty((frames, height, width, 1), np.uint8)
    for frame in range(frames):
        time = frame / FRAMES_PER_SECOND
        swing = np.sin(rate * time * np.array([1.0, 1.3, 1.7]) + phase)
        canvas = np.zeros((height, width, 4), np.float32)
        for person in persons:
            people.draw(canvas, person, time, 1 + zoom * swing[0], pan * swing[1:])
        picture = cv2.GaussianBlur(canvas, (0, 0), defocus) if defocus else canvas
        foreground[frame], alpha[frame] = straight(picture)
    return foreground, alpha


def _background(rng: np.random.Generator, frames: int, height: int, width: int) -> Pixels:
    background = backgrounds.design(rng, height, width)
    return np.stack([backgrounds.draw(background, height, width, frame / FRAMES_PER_SECOND) for frame in range(frames)])
