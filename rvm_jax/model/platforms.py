"""The choice of a form by platform: while a program is lowered, or while it is traced where the platform is known."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from jax import lax

_platform: ContextVar[str | None] = ContextVar("platform", default=None)


@contextlib.contextmanager
def tracing_for(platform: str) -> Iterator[None]:
    """What this thread traces in the block is for one platform alone, as `jax.Device.platform` names it, or "cuda".

    Then the forms of others are not traced, which takes half of the time. Not for functions that JAX keeps traced and
    may lower for another platform later.
    """
    # JAX calls all GPUs "gpu", where forms are those of "cuda": left to it.
    token = _platform.set(platform if platform in ("cpu", "cuda", "tpu") else None)
    try:
        yield
    finally:
        _platform.reset(token)


def by_platform(*operands: Any, default: Callable[..., Any], **forms: Callable[..., Any]) -> Any:
    """`lax.platform_dependent`, or the one form where the platform is known."""
    platform = _platform.get()
    if platform is None:
        return lax.platform_dependent(*operands, default=default, **forms)
    return forms.get(platform, default)(*operands)
