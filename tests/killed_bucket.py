"""A bucket whose user is killed in the middle of its work, and one that cannot be reached."""

import itertools
from collections.abc import Callable
from typing import Any

from rvm_jax.host import buckets

CHANGES = ("put_file", "pipe_file", "rm_file")


class Killed(BaseException):
    """What stands for the end of the process: nothing after it reaches the bucket."""


def at_change(monkeypatch, number: int, end: Callable[[], Any], *, after: bool = False, names: str = "") -> None:
    """Call `end`, which raises or kills, at the change number `number` of files whose names contain `names`.

    It is called before the change or `after` it, and by whatever is done to the bucket from then on.
    """
    original = buckets.file_system
    count = itertools.count()
    ended: list[bool] = []

    class Watched:
        def __init__(self, system: Any) -> None:
            self._system = system

        def __getattr__(self, attribute: str) -> Any:
            operation = getattr(self._system, attribute)

            def watched(*arguments: Any, **options: Any) -> Any:
                is_it = attribute in CHANGES and names in " ".join(map(str, arguments)) and next(count) == number
                if is_it and after:
                    operation(*arguments, **options)
                if is_it:
                    ended.append(True)
                if ended:
                    end()
                return operation(*arguments, **options)

            return watched

    def file_system(url):
        system, name = original(url)
        return Watched(system), name

    monkeypatch.setattr(buckets, "file_system", file_system)


def raise_killed() -> None:
    raise Killed


def unreachable() -> None:
    raise OSError("the network is down")
