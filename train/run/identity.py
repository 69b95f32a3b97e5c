"""What a run is, and what of it may change when it goes on: all that has not acted on an iteration that is done.

An identity is a mapping as JSON has it: `recipe`, the `iterations` of each stage, and digests of its `data`. In a run's
folder it may have `changes` too, each with the iteration at which it was made and what was before.
"""

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

from train.recipe.recipe import check_warmup
from train.recipe.text import defaults

Identity = Mapping[str, Any]
NOTHING = "nothing"


class Resumption(NamedTuple):
    """What becomes of a run that is started again.

    Attributes:
        identity: What it is from now on.
        refused: What was asked for otherwise, but acted on iterations that are done, a line each.
        changed: What is otherwise from now on, a line each.
    """

    identity: Identity
    refused: list[str]
    changed: list[str]


class _Change(NamedTuple):
    name: str
    before: Any
    now: Any
    acted: bool


def begin(asked: Identity) -> None:
    """Refuse what should not be begun."""
    check_warmup(asked["recipe"]["warmup"], asked["iterations"])


def resume(run: Identity, asked: Identity, done: int | None) -> Resumption:
    """Compare what a run is with what is asked for now. `done`: its newest checkpoint, None if it has none.

    If that proves damaged, an older one will do: what may change after more iterations may change after fewer.
    """
    # The state before the first iteration belongs to the first stage, as which it was validated.
    acted = 0 if done is None else max(done, 1)
    lengths = list(_changes_of_length(run, asked["iterations"], acted))
    fixed = {length.name for length in lengths if length.acted}
    changes = [
        *_changes_of_recipe(run, asked["recipe"], acted, fixed, began=bool(done)),
        *lengths,
        *_changes_of_data(run, asked["data"], acted),
    ]
    refused = [f"{name}: {before} in the run, {now} now" for name, before, now, acted in changes if acted]
    if not refused:
        others = {
            n: count for n, count in asked["iterations"].items() if done is None or count != run["iterations"].get(n)
        }
        check_warmup(asked["recipe"]["warmup"], others)
    changed = [_told(change) for change in changes if not change.name.startswith("iterations.")]
    trail = list(run.get("changes", []))
    if changes:
        trail.append({"iteration": done or 0, "before": {change.name: change.before for change in changes}})
    identity = {**asked, **({"changes": trail} if trail else {})}
    began, init = run["recipe"].get("init"), asked["recipe"]["init"]
    if done and began != init:
        identity["recipe"] = {**asked["recipe"], "init": began}
        changed.append(f"init {init} is not read: the run began with {began}, and has gone on from there")
    return Resumption(identity, refused, changed)


def _changes_of_recipe(
    run: Identity, asked: Mapping[str, Any], acted: int, fixed: Set[str], *, began: bool
) -> Iterator[_Change]:
    """`fixed`: lengths that have to stay. `began`: whether what the run began with is past."""
    before, now = with_defaults(run["recipe"]), flat(asked)
    begun = _begun(run, acted)
    for name in before | now:
        was, will_be = before.get(name, NOTHING), now.get(name, NOTHING)
        if was == will_be or (name == "init" and began):
            continue
        stage = re.fullmatch(r"stages\.(\d+)\.(.+)", name)
        if name not in now:  # this version has no such field
            hinders = False
        elif stage is None:
            hinders = acted > 0
        elif stage[2] in ("epochs", "samples", "iterations"):
            hinders = f"iterations.{stage[1]}" in fixed
        else:
            hinders = stage[1] in begun
        yield _Change(name, was, will_be, hinders)


def _changes_of_length(run: Identity, asked: Mapping[str, int], acted: int) -> Iterator[_Change]:
    """A stage may be as long as one likes until the next begins, but not shorter than it is already.

    Of one whose learning rates fall to its end, the length has acted from the beginning.
    """
    begins, begun = 0, _begun(run, acted) if run["recipe"].get("schedule") == "cosine" else ()
    for number, count in run["iterations"].items():
        now = asked.get(number, 0)
        if now != count:
            yield _Change(f"iterations.{number}", count, now, number in begun or acted > begins + min(count, now))
        begins += count


def _changes_of_data(run: Identity, asked: Mapping[str, str], acted: int) -> Iterator[_Change]:
    """Of an old run only the first half of a digest is known."""
    recipe, before = run["recipe"], run["data"]
    of_all = ("backgrounds", "segmentation_clips", "segmentation_stills")
    used = {name for field in of_all if acted for name in recipe.get(field, ())}
    for number in _begun(run, acted):
        stage = recipe["stages"][number]
        used |= {name for field in ("matting", "backgrounds", "data") for name in stage.get(field, ())}
    for name in before | asked:
        if not (name in before and asked.get(name, "").startswith(before[name])):
            yield _Change(f"data.{name}", before.get(name, NOTHING), asked.get(name, NOTHING), name in used)


def _begun(run: Identity, acted: int) -> set[str]:
    """The numbers of the stages that have begun."""
    begins, begun = 0, set()
    for number, count in run["iterations"].items():
        if count and begins < acted:
            begun.add(number)
        begins += count
    return begun


def _told(change: _Change) -> str:
    name = re.sub(r"^stages\.(\d+)\.", r"stage \1: ", change.name)
    if change.now == NOTHING and not name.startswith("data."):
        return f"{name} {change.before} in the run so far, which this version of rvm-jax does not know"
    return f"{name} {change.before} in the run so far, {change.now} from now on"


def with_defaults(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a run's recipe, by their paths. A field that its version did not have has its default."""
    said, others = flat(recipe), flat(defaults(recipe["stages"], recipe.get("variant")))
    return said | {name: value for name, value in others.items() if name not in said}


def flat(nested: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The leaves of a tree, by their paths."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= flat(value, f"{where}{name}.") if isinstance(value, Mapping) else {f"{where}{name}": value}
    return found
