"""Containers that are written: closed in the end, but for those that a thread is stuck in."""

import contextlib
from collections.abc import Iterator

import av

from rvm_jax.errors import InputError


class UnreadError(InputError):
    """Who gets what is written has stopped taking it, so that a thread is, and stays, in the middle of writing."""


@contextlib.contextmanager
def open_container(file: str, form: str, options: dict[str, str]) -> Iterator[av.container.OutputContainer]:
    """As `av.open`; left as it is after an `UnreadError`, for two threads at once in FFmpeg would not end well."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(av.open(file, "w", format=form, options=options))
        try:
            yield output
        except UnreadError:
            stack.pop_all()
            raise
