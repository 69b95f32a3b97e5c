"""The run folder: which run it belongs to, and a lock so that one process at a time trains in it."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.locks import HeldError, locked

IDENTITY = "recipe.json"
"""What the run is: its recipe, the iterations of each stage, and fingerprints of its data."""
LOCK = "lock"


@contextlib.contextmanager
def claim(folder: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """Keep the folder for this process while the block runs.

    A new or empty folder becomes that of the run with this identity, a mapping as JSON has it. The folder of any other
    run is refused, with all the differences. However the process ends, the folder is free again.
    """
    with contextlib.ExitStack() as stack:
        try:
            _refuse_others(folder)
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCK))
            run = _read(folder / IDENTITY)
        except HeldError as held:
            raise InputError(
                f"{held.owner} is training in {folder}: wait for it, stop it, or give another --out DIR"
            ) from None
        except OSError as error:
            raise InputError(f"cannot train in {folder} ({error.strerror}): give another folder, --out DIR") from error
        if run is None:
            with replacing(folder / IDENTITY) as partial:
                partial.write_text(json.dumps(identity, indent=2) + "\n")
        elif changed := differences(run, identity):
            first = f"{folder} holds another run: start with the same recipe and data, or give another --out DIR"
            raise InputError("\n  ".join([first, *(line.removeprefix("recipe.") for line in changed)]))
        yield


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], of_old: str = "in the run", of_new: str = "now"
) -> list[str]:
    """What differs between the identity of a run and of what was asked for now, a line each."""
    before, now = _flat(old), _flat(new)
    return [
        f"{name}: {before.get(name, 'nothing')} {of_old}, {now.get(name, 'nothing')} {of_new}"
        for name in before | now
        if name not in before or name not in now or before[name] != now[name]
    ]


def _flat(nested: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The leaves of a tree, by their paths."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= _flat(value, f"{where}{name}.") if isinstance(value, Mapping) else {f"{where}{name}": value}
    return found


def _refuse_others(folder: Path) -> None:
    """Refuse what is not a run and not empty. What a start that was killed may have left is no matter."""
    if not folder.exists() or (folder / IDENTITY).exists():
        return
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name != LOCK and not name.startswith(".rvm-")]
    if others:
        raise InputError(f"{folder} is not the folder of a run, but holds {others[0]}: give another folder, --out DIR")


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
