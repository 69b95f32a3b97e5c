"""Frames in, mattes out: any iterable of frames matted one by one as they come."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.errors import InputError
from rvm_jax.matte import Matte, automatic_ratio, load
from rvm_jax.model.network import check_frames
from rvm_jax.video import backgrounds
from rvm_jax.video.frames import at_depth
from rvm_jax.video.matting import PathLike, matte_chunk
from rvm_jax.video.plates import opening
from rvm_jax.video.plates.alignment import Alignment, aligned, alignment
from rvm_jax.video.streaming import memoryless


def matte_frames(
    frames: Iterable[np.ndarray],
    *,
    weights: PathLike | Matte | BaselineMatte,
    plate: PathLike | np.ndarray | None = None,
    align_plate: bool = False,
    background: str = backgrounds.TRANSPARENT,
    downsample_ratio: float | None = None,
    precision: str = "float32",
) -> Iterator[np.ndarray]:
    """Matte frames one by one: of each, the matte is given before the next frame is asked for.

    Frames are RGB, uint8 [H, W, 3], of one size, in the order of time: RVM remembers those before. Mattes are
    uint8 too: [H, W, 4], RGB and alpha (straight, not multiplied), or [H, W, 3] before a `background`.

        for rgba in rvm_jax.matte_frames(camera, weights="mobilenetv3"):
            show(rgba)

    Args:
      frames: any iterable of them: a generator, a list, what a camera's library gives.
      weights: a file or folder that `rvm_jax.load` takes, or what it returned.
      plate: the same view without the person, which BackgroundMattingV2 needs: a picture, or uint8 [H, W, 3].
      align_plate: warp it to each frame, for a camera in somebody's hand.
      background: a colour ("green", "#rrggbb"), a picture, "blur" or "checkered".
      downsample_ratio: how large the network looks at the frames; by default their longest side becomes 512.
      precision: what the network computes in, if `weights` are a path: see `rvm_jax.load`.
    """
    if background != backgrounds.TRANSPARENT:
        backgrounds.check(background)
    matte = (weights if isinstance(weights, Matte | BaselineMatte) else load(weights, precision)).folded()
    given = plate if plate is None or isinstance(plate, np.ndarray) else os.fspath(plate)
    opening.check_network(matte, "given" if isinstance(given, np.ndarray) else given, smooth=False)
    if isinstance(given, np.ndarray):
        _shape(given, "a plate")
    else:
        opening.check_options(given, align_plate, "-")
    if isinstance(matte, Matte):
        return _mattes(frames, matte, background, downsample_ratio)
    pixels = opening.read_plate(given) if isinstance(given, str) else given
    return _forgetful_mattes(frames, matte, pixels, align_plate, background, downsample_ratio)


def _mattes(
    frames: Iterable[np.ndarray], matte: Matte, background: str, downsample_ratio: float | None
) -> Iterator[np.ndarray]:
    kind = _kind(background)
    state: Any = None
    behind: Any = None
    ratio = 1.0
    for frame in _alike(frames):
        if state is None:
            size = frame.shape[:2]
            ratio = automatic_ratio(size) if downsample_ratio is None else float(downsample_ratio)
            check_frames(np.broadcast_to(np.float32(0), (1, *frame.shape)), ratio)
            state = matte.network.initial_state(1, size, ratio, matte.dtype)
            behind = _still(background, *size)
        made, state = matte_chunk(
            matte.network, matte.variables, jax.device_put(frame[None]), state, behind, ratio, (kind,)
        )
        yield np.asarray(made[kind])[0]


def _forgetful_mattes(
    frames: Iterable[np.ndarray],
    matte: BaselineMatte,
    plate: np.ndarray | None,
    align: bool,
    background: str,
    ratio: float | None,
) -> Iterator[np.ndarray]:
    kind = _kind(background)
    behind: Any = None
    clean: Any = None
    plates: Alignment | None = None
    for number, frame in enumerate(_alike(frames)):
        if not number:
            size = frame.shape[:2]
            memoryless.check(matte, size, ratio)
            behind = _still(background, *size)
            if plate is not None:
                fitted = at_depth(opening.fitted(plate, "plate", size, "the frames", align), np.dtype(np.uint8))
                plates = alignment(fitted, "plate") if align else None
                clean = jax.device_put(fitted)
        shown = clean if plates is None else aligned(plates, frame)
        pixels = frame[None]
        made = memoryless.predict(matte, pixels, shown, ratio)
        yield np.asarray(memoryless.finish(pixels, made, behind, (kind,))[kind])[0]


def _kind(background: str) -> str:
    return "cut_out" if background == backgrounds.TRANSPARENT else "composite"


def _alike(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, all of the shape of the first."""
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        shape = shape or _shape(frame)
        if _shape(frame) != shape:
            given, expected = (f"{size[1]}×{size[0]}" for size in (frame.shape, shape))
            raise InputError(f"frame {number} has {given} pixels, those before it {expected}: expected one size")
        yield frame


def _shape(frame: Any, what: str = "a frame") -> tuple[int, ...]:
    """Its shape, if it is a frame, or something else like one."""
    shape: tuple[int, ...] = getattr(frame, "shape", ())
    dtype = getattr(frame, "dtype", type(frame).__name__)
    if len(shape) != 3 or shape[-1] != 3 or dtype != np.uint8:
        raise InputError(f"{what} is {dtype} of shape {tuple(shape)}: expected a NumPy array, uint8 [H, W, 3], RGB")
    return tuple(shape)


def _still(background: str, height: int, width: int) -> jax.Array | None:
    """uint8 that broadcasts to [1, H, W, 3]; None for none, or for the frames' own, blurred."""
    with backgrounds.open_background(background, height, width) as opened:
        if opened.moving is not None:
            raise InputError(f"{background} is a video, which has times, and frames have none: give a picture")
        return None if opened.still is None else jax.device_put(opened.still)
