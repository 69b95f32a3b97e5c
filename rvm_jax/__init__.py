"""Robust video matting in JAX: cut people out of video, without a green screen.

    import rvm_jax

    matte = rvm_jax.load("rvm_mobilenetv3.pth")
    foreground, alpha, state = matte(frames)
    rvm_jax.save(matte, "mine.safetensors")
    rvm_jax.matte_video("in.mp4", "out.mp4", weights=matte)
    for rgba in rvm_jax.matte_frames(frames, weights=matte): ...

Everything is imported when it is first used, so that `rvm --help` need not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for mypy and editors; a test holds it to _HOMES
    from rvm_jax.errors import InputError as InputError
    from rvm_jax.matte import Matte as Matte
    from rvm_jax.matte import load as load
    from rvm_jax.matte import save as save
    from rvm_jax.model.decoder import State as State
    from rvm_jax.model.network import MattingNetwork as MattingNetwork
    from rvm_jax.model.network import MattingOutput as MattingOutput
    from rvm_jax.model.network import SegmentationOutput as SegmentationOutput
    from rvm_jax.video.matting import VideoResult as VideoResult
    from rvm_jax.video.matting import matte_video as matte_video
    from rvm_jax.video.streaming.iterator import matte_frames as matte_frames

    __version__: str

_HOMES = {
    "errors": ("InputError",),
    "matte": ("Matte", "load", "save"),
    "model.decoder": ("State",),
    "model.network": ("MattingNetwork", "MattingOutput", "SegmentationOutput"),
    "video.matting": ("VideoResult", "matte_video"),
    "video.streaming.iterator": ("matte_frames",),
}
_ROOMS = ("baselines", "evaluation", "export", "model", "report", "serve", "video", "weights")
__all__ = ["__version__", *(name for names in _HOMES.values() for name in names)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rvm-jax")
    if name in _ROOMS:
        return importlib.import_module(f"rvm_jax.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"rvm_jax.{home}"), name)
    raise AttributeError(f"module 'rvm_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]
