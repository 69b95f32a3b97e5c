"""The run folder: which run it belongs to, and a lock so that one process at a time trains in it."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.host.buckets import join
from rvm_jax.host.files import replacing
from rvm_jax.host.locks import HeldError, locked
from rvm_jax.host.paths import Location
from rvm_jax.weights import orbax_folders
from train.recipe.division import Kept
from train.run import identity
from train.run.identity import Identity

IDENTITY = "recipe.json"
"""What the run is: see `identity`."""
LOCK = "lock"


@contextlib.contextmanager
def claim(folder: Path, asked: Identity, out: Location | None = None) -> Iterator[list[str]]:
    """Keep the folder for this process while the block runs; gives what is otherwise from now on, a line each.

    A new or empty folder becomes that of the run with this identity, a mapping as JSON has it. The folder of a run goes
    on with it, unless that would be another run: then it is refused, with all the differences that make it one. However
    the process ends, the folder is free again. `out` is what the user calls the folder, if not by its path.
    """
    with contextlib.ExitStack() as stack:
        try:
            if folder.exists():
                refuse_others(folder, [path.name for path in folder.iterdir()])
            if not (folder / IDENTITY).exists():
                identity.begin(asked)
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCK))
            run = _read(folder, out or folder)
            done = _done(folder)
        except HeldError as held:
            raise held_by(held.owner, folder) from None
        except OSError as error:
            raise InputError(f"cannot train in {folder} ({error.strerror}): give another folder, --out DIR") from error
        found = identity.Resumption(asked, [], []) if run is None else identity.resume(run, asked, done)
        if found.refused:
            raise InputError(
                f"{out or folder} holds another run, with {done} iterations done: start with the same recipe and data, "
                "or give another --out DIR\n  " + "\n  ".join(found.refused)
            )
        if found.identity != run:
            with replacing(folder / IDENTITY, overwrite=True) as partial:
                partial.write_text(json.dumps(found.identity, indent=2) + "\n")
        yield found.changed


def kept(folder: Path) -> Kept | None:
    """What the run in the folder keeps, once it has a checkpoint."""
    run = _readable(folder)
    return None if run is None or _done(folder) is None else Kept(run["recipe"]["batch"], run["recipe"]["scaling"])


def initial(folder: Path) -> str | None:
    """The weights that the run in the folder began with, as its recipe names them."""
    run = _readable(folder)
    return None if run is None else run["recipe"].get("init")


def _readable(folder: Path) -> dict[str, Any] | None:
    """The identity of the run in the folder, if there is one that can be read: if not, `claim` says so."""
    try:
        return _read(folder, folder)
    except (OSError, InputError):
        return None


def _done(folder: Path) -> int | None:
    """The iterations of the newest checkpoint."""
    return max(orbax_folders.saved_iterations(folder / orbax_folders.CHECKPOINTS), default=None)


def refuse_others(folder: Location, names: Iterable[str]) -> None:
    """Refuse what is not a run and not empty, by its files. What a start that was killed may have left is no matter."""
    others = sorted(name for name in names if name != LOCK and not name.startswith(".rvm-"))
    if others and IDENTITY not in others:
        raise InputError(f"{folder} is not the folder of a run, but holds {others[0]}: give another folder, --out DIR")


def held_by(owner: str, folder: Location) -> InputError:
    """What to tell if another process trains there."""
    return InputError(f"{owner} is training in {folder}: wait for it, stop it, or give another --out DIR")


def _read(folder: Path, out: Location) -> dict[str, Any] | None:
    """The identity of the run in the folder, which the user calls `out`, if there is one."""
    path = folder / IDENTITY
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        whole = {"batch", "stages"} <= found["recipe"].keys() and {"iterations", "data"} <= found.keys()
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{join(out, IDENTITY)} does not say what the run is: give another folder, --out DIR")
    return found
