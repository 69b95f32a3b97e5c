"""What a validation shows: the network's input, the true matte, its own matte, and the person on green.

Both kinds of picture are layers of one clip, [1, n, h, w, 3], for `rvm_jax.report.contact_sheet` to lay out and write.
"""

from collections.abc import Sequence

import numpy as np

from rvm_jax.report.contact_sheet import COLUMNS, Layers, thumbnails
from train.device.evaluation import ValidationClip

GREEN = np.array([0, 177, 64], np.float32)


def sheet(clips: Sequence[ValidationClip]) -> Layers:
    """The middle frame of each of the first clips, as if they were moments of one."""
    middles = [ValidationClip(*(frames[len(frames) // 2] for frames in clip)) for clip in clips[:COLUMNS]]
    return _layers(ValidationClip(*map(np.stack, zip(*middles, strict=True))))


def film(clip: ValidationClip) -> Layers:
    """All frames of a clip."""
    return _layers(clip)


def _layers(frames: ValidationClip) -> Layers:
    source, alpha, foreground, matte = (
        thumbnails(np.broadcast_to(pictures, (*pictures.shape[:3], 3))) for pictures in frames
    )
    share = matte.astype(np.float32) / 255
    on_green = np.rint(foreground * share + GREEN * (1 - share)).astype(np.uint8)
    shown = {"input": source, "true matte": alpha, "matte": matte, "on green": on_green}
    return {name: pictures[None] for name, pictures in shown.items()}
