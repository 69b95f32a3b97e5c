"""Robust video matting in JAX: cut people out of video, without a green screen.

    import rvm_jax

    matte = rvm_jax.load("rvm_mobilenetv3.pth")
    foreground, alpha, state = matte(frames)
    rvm_jax.matte_video("in.mp4", "out.mp4", weights=matte)

Everything is imported when it is first used, so that `rvm --help` need not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rvm_jax.decoder import State
    from rvm_jax.errors import InputError
    from rvm_jax.matte import Matte, load
    from rvm_jax.matting import Matted, matte_video
    from rvm_jax.network import Matting, MattingNetwork, Segmentation

_HOMES = {
    "InputError": "rvm_jax.errors",
    "Matte": "rvm_jax.matte",
    "Matted": "rvm_jax.matting",
    "Matting": "rvm_jax.network",
    "MattingNetwork": "rvm_jax.network",
    "Segmentation": "rvm_jax.network",
    "State": "rvm_jax.decoder",
    "load": "rvm_jax.matte",
    "matte_video": "rvm_jax.matting",
}
__all__ = ["InputError", "Matte", "Matted", "Matting", "MattingNetwork", "Segmentation", "State", "load", "matte_video"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rvm_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
