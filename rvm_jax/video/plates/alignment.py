"""Alignment of a clean plate with the frames of a hand-held camera: a homography for each frame, by ORB and RANSAC.

As BackgroundMattingV2 does it, with these differences: features are compared by Hamming distance; none is taken where
the frame before differed from its plate, which is the person; and where the warped plate ends, the frame's own pixels,
which stand for what is not known, come in gradually.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy  # whose `ndimage` is imported when it is first used
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video.frames import at_depth, resized
from rvm_jax.video.plates.features import Features, features, matched

LOOKED_AT = 640
"""The longest side of what is compared, in pixels: features of larger pictures are slower and no better."""

NEAR = 2.0  # pixels there, within which a match agrees with a homography
TRIALS = 1000
FEWEST = 16
"""Matches that must agree; by chance it is six or so."""

DIFFERENT = 24.0
"""Grey levels by which a person differs from the plate, at least."""

PULL = 1e-3
"""How much a homography is drawn towards no motion: features that are all in one corner tell little of another."""
STILL = np.array([1.0, 0, 0, 0, 1, 0, 0, 0])[:, None]

FEATHER = 1 / 64  # of the plate's width


@dataclass(eq=False)
class Alignment:
    """Warps one plate, uint8 or uint16 [H, W, 3], into frames, in their order: `aligned(alignment, frame)`."""

    plate: np.ndarray
    gray: np.ndarray
    """The plate as it is compared, float32 [h, w]."""
    features: Features
    ramp: np.ndarray
    """float32 [H, W]: 0 at the edge of the plate, 1 from a feather's width on."""
    homography: np.ndarray = field(default_factory=lambda: np.eye(3))
    """From the frame to the plate, where both have sides of 1; the newest."""
    person: np.ndarray | None = None
    """bool [h, w]: where the frame before differed from its plate."""
    seen: int = 0
    failed: int = 0
    """Frames to which it could not be aligned: they got the homography of the frame before."""


def alignment(plate: np.ndarray, name: str) -> Alignment:
    """Of a plate, which must have something to hold on to."""
    gray = _gray(plate)
    found = features(gray)
    if len(found.points) < FEWEST:
        raise InputError(
            f"{name} has {len(found.points)} corners, too few to align it by: film from a tripod, without --align-plate"
        )
    return Alignment(plate, gray, found, _ramp(*plate.shape[:2]))


def aligned(alignment: Alignment, frame: np.ndarray) -> np.ndarray:
    """The plate as the camera of this frame, uint8 or uint16 [H, W, 3], sees it."""
    gray = _gray(frame)
    homography = _homography(alignment, gray)
    if homography is None and alignment.person is not None:  # perhaps it was no person
        alignment.person = None
        homography = _homography(alignment, gray)
    alignment.seen += 1
    if homography is None:
        alignment.failed += 1
    else:
        alignment.homography = homography
        alignment.person = _person(alignment, gray)
    return _warped(alignment, frame)


def find_homography(here: np.ndarray, there: np.ndarray, near: float) -> np.ndarray | None:
    """RANSAC: the 3×3 matrix that takes most points `here` [N, 2] to within `near` of those `there`, if many agree.

    Coordinates are of the order of 1.
    """
    if len(here) < FEWEST:
        return None
    rng = np.random.Generator(np.random.PCG64(len(here)))
    samples = rng.random((TRIALS, len(here))).argpartition(3, axis=1)[:, :4]
    agree = _distances(_through(here[samples], there[samples]), here, there) < near
    agreed = agree[agree.sum(1).argmax()]
    matrix = None
    for _ in range(3):
        if agreed.sum() < FEWEST:
            return None
        matrix = _through(here[agreed][None], there[agreed][None])
        agreed = _distances(matrix, here, there)[0] < near
    return None if matrix is None else matrix[0]


def _through(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The matrices [K, 3, 3] that take points [K, N, 2] to others, in the least squares of their equations."""
    x, y = here[..., 0], here[..., 1]
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = [
        np.stack([*axis, -x * to, -y * to], -1)
        for axis, to in (((x, y, one, zero, zero, zero), there[..., 0]), ((zero, zero, zero, x, y, one), there[..., 1]))
    ]
    equations = np.concatenate(rows, 1)  # [K, 2N, 8]
    target = np.concatenate([there[..., 0], there[..., 1]], 1)[..., None]
    square = equations.swapaxes(1, 2) @ equations + PULL * np.eye(8)
    solution = np.linalg.solve(square, equations.swapaxes(1, 2) @ target + PULL * STILL)[..., 0]
    return np.concatenate([solution, np.ones((len(here), 1))], 1).reshape(-1, 3, 3)


def _distances(matrices: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """How far from `there` [N, 2] each of the matrices [K, 3, 3] takes `here`: [K, N]; what goes behind is far."""
    moved = np.concatenate([here, np.ones((len(here), 1))], 1) @ matrices.swapaxes(1, 2)  # [K, N, 3]
    depth = moved[..., 2:]
    off = moved[..., :2] / np.where(depth > 0.1, depth, np.inf) - there
    return np.where(depth[..., 0] > 0.1, np.hypot(off[..., 0], off[..., 1]), np.inf)


def _homography(alignment: Alignment, gray: np.ndarray) -> np.ndarray | None:
    """From the frame to the plate, as it is seen without what was the person in the frame before."""
    found = features(gray, alignment.person)
    here, there = matched(found, alignment.features)
    sizes = [np.array(picture.shape[::-1]) / max(picture.shape) for picture in (gray, alignment.gray)]
    points = found.points[here] / max(gray.shape), alignment.features.points[there] / max(alignment.gray.shape)
    matrix = find_homography(*points, NEAR / max(gray.shape))
    if matrix is None:
        return None
    return np.diag([*(1 / sizes[1]), 1]) @ matrix @ np.diag([*sizes[0], 1])


def _person(alignment: Alignment, gray: np.ndarray) -> np.ndarray:
    """bool [h, w]: where a frame differs from the plate that was just aligned with it, and a little around that."""
    plate = _through_homography(alignment.gray, alignment.homography, gray.shape)
    known = _through_homography(np.ones_like(alignment.gray), alignment.homography, gray.shape) > 0.99
    difference = scipy.ndimage.gaussian_filter(np.where(known, np.abs(gray - plate), 0), 2)
    usual = np.median(difference[known]) if known.any() else 0
    return scipy.ndimage.maximum_filter(difference > max(DIFFERENT, 4 * usual), 15)


def _warped(alignment: Alignment, frame: np.ndarray) -> np.ndarray:
    shape = frame.shape[:2]
    plate = at_depth(alignment.plate, frame.dtype)
    warped = _through_homography(plate, alignment.homography, shape)
    weight = _through_homography(alignment.ramp, alignment.homography, shape)
    edge = weight < 1
    share = weight[edge][:, None]
    warped[edge] = np.rint(warped[edge] * share + frame[edge] * (1 - share))
    return warped


def _ramp(height: int, width: int) -> np.ndarray:
    x, y = (np.minimum(np.arange(side), np.arange(side)[::-1]) / (FEATHER * width) for side in (width, height))
    return np.minimum(np.minimum(y[:, None], x), 1).astype(np.float32)


def _through_homography(pixels: np.ndarray, homography: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[h, w] or [h, w, 3] as seen through a homography between squares of side 1, at `shape`; outside it is 0."""
    height, width = pixels.shape[:2]
    matrix = np.diag([width, height, 1]) @ homography @ np.diag([1 / shape[1], 1 / shape[0], 1])
    numbers = tuple((matrix / matrix[2, 2]).ravel()[:8])
    planes = [pixels] if pixels.ndim == 2 or pixels.dtype == np.uint8 else list(np.moveaxis(pixels, -1, 0))
    made = [
        np.asarray(
            Image.fromarray(plane if plane.dtype == np.uint8 else plane.astype(np.float32)).transform(
                (shape[1], shape[0]), Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BILINEAR
            )
        )
        for plane in planes
    ]
    return made[0].copy() if len(made) == 1 else np.rint(np.stack(made, -1)).astype(pixels.dtype)


def _gray(pixels: np.ndarray) -> np.ndarray:
    """float32 [h, w] in 0..255, small enough to be compared."""
    height, width, _ = pixels.shape
    scale = min(1, LOOKED_AT / max(height, width))
    small = resized(at_depth(pixels, np.dtype(np.uint8)), (round(height * scale), round(width * scale)))
    return np.asarray(Image.fromarray(small).convert("L"), np.float32)
