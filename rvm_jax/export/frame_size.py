"""What a file of one size is exported for."""

from typing import NamedTuple


class FrameSize(NamedTuple):
    """The size (height, width) of frames, and the `downsample_ratio` at which the network looks at them."""

    size: tuple[int, int]
    ratio: float
