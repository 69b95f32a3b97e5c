"""The run folder: which run it belongs to, and a lock so that one process at a time trains in it."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.locks import HeldError, locked
from rvm_jax.host.paths import Location

IDENTITY = "recipe.json"
"""What the run is: its recipe, the iterations of each stage, and fingerprints of its data."""
LOCK = "lock"


@contextlib.contextmanager
def claim(folder: Path, identity: Mapping[str, Any], out: Location | None = None) -> Iterator[None]:
    """Keep the folder for this process while the block runs.

    A new or empty folder becomes that of the run with this identity, a mapping as JSON has it. The folder of any other
    run is refused, with all the differences. However the process ends, the folder is free again. `out` is what the user
    calls the folder, if not by its path.
    """
    with contextlib.ExitStack() as stack:
        try:
            if folder.exists():
                refuse_others(folder, [path.name for path in folder.iterdir()])
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCK))
            run = _read(folder / IDENTITY)
        except HeldError as held:
            raise held_by(held.owner, folder) from None
        except OSError as error:
            raise InputError(f"cannot train in {folder} ({error.strerror}): give another folder, --out DIR") from error
        if run is None:
            with replacing(folder / IDENTITY) as partial:
                partial.write_text(json.dumps(identity, indent=2) + "\n")
        elif changed := differences(run, identity):
            first = f"{out or folder} holds another run: start with the same recipe and data, or give another --out DIR"
            raise InputError("\n  ".join([first, *(line.removeprefix("recipe.") for line in changed)]))
        yield


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between the identity of a run and of what was asked for now, a line each."""
    before, now = _flat(old), _flat(new)
    return [
        f"{name}: {before.get(name, 'nothing')} in the run, {now.get(name, 'nothing')} now"
        for name in before | now
        if name not in before or name not in now or before[name] != now[name]
    ]


def _flat(nested: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The leaves of a tree, by their paths."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= _flat(value, f"{where}{name}.") if isinstance(value, Mapping) else {f"{where}{name}": value}
    return found


def refuse_others(folder: Location, names: Iterable[str]) -> None:
    """Refuse what is not a run and not empty, by its files. What a start that was killed may have left is no matter."""
    others = sorted(name for name in names if name != LOCK and not name.startswith(".rvm-"))
    if others and IDENTITY not in others:
        raise InputError(f"{folder} is not the folder of a run, but holds {others[0]}: give another folder, --out DIR")


def held_by(owner: str, folder: Location) -> InputError:
    """What to tell if another process trains there."""
    return InputError(f"{owner} is training in {folder}: wait for it, stop it, or give another --out DIR")


def _read(path: Path) -> dict[str, Any] | None:
    """The identity of the run in the folder, if there is one."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} does not say what the run is: give another folder, --out DIR")
    return found
