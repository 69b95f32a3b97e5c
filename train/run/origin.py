"""Origin of the weights that a run writes: its recipe, its data with their licences, and what it began from.

It lies as `provenance.json` in the run's folder, where it speaks for all checkpoints, and goes into the weights.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.records import licences
from data_pipelines.records.clips import prepared_folder
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.paths import Location
from rvm_jax.weights.provenance import FILE, Provenance, TrainingSet, from_json
from train.recipe import baselines, published
from train.recipe.text import to_json
from train.recipe.training import Training
from train.run import run_folder
from train.run.identity import flat
from train.run.initial_state import Initial

RANDOM = "random weights"
UNSAID = licences.Licence("not said", "", "unknown", "")
"""Of what was prepared before licences were kept."""
MOST_CHANGES = 6
"""That are told one by one."""


def of_datasets(recipe: Training, names: Iterable[str], data_dir: Location) -> list[dict[str, str]]:
    """The version and licence of each dataset; refuses those that are not free, if the recipe does."""
    found = []
    for name in sorted(names):
        folder = prepared_folder(name, data_dir)
        assert folder is not None  # it was opened
        known = licences.read(folder)
        licence = known or UNSAID
        if recipe.unfree == "refuse" and licence.commercial != "yes":
            raise InputError(f"{name} {_refusal(known)}, or give --unfree allow, which the weights will tell")
        told = licence.name, licence.link, licence.commercial, licence.attribution
        found.append(dataclasses.asdict(TrainingSet(name, Path(folder).name, *told)))
    return found


def of_new_run(recipe: Training, data: Sequence[Mapping[str, str]], initial: Initial | None) -> Provenance:
    """What a run on data as `of_datasets` gives them will tell of its weights.

    If the recipe refuses what is not free, it refuses to begin with weights that are not, or that do not tell.
    """
    if initial is None:
        return _whole(recipe, data, RANDOM)
    told = initial.provenance
    if recipe.unfree == "refuse" and (told is None or told.unfree or told.unfree_allowed):
        why = "which says not what it was trained on" if told is None else "which was trained on data that is not free"
        raise InputError(
            f"--init {recipe.init}, {why}: begin without, or with weights of `rvm train clean`, or give --unfree "
            "allow, which the weights will tell"
        )
    begun = Path(str(recipe.init)).name
    return _whole(recipe, data, begun, told.data if told else (), unfree=told is None or told.unfree_allowed)


def of_resumed_run(recipe: Training, data: Sequence[Mapping[str, str]], folder: Path) -> Provenance:
    """The same of a run that goes on: what it began with, and the data that it saw before, stay."""
    before = read(folder)
    if before is not None:
        return _whole(recipe, data, before.initial, before.data, unfree=before.unfree_allowed)
    # It began before runs told of it, with weights that may be gone by now.
    begun = run_folder.initial(folder)
    return _whole(recipe, data, RANDOM if begun is None else Path(begun).name, unfree=begun is not None)


def write(origin: Provenance, folder: Path) -> None:
    """Keep it in the run's folder."""
    with replacing(folder / FILE, overwrite=True) as partial:
        partial.write_text(origin.to_json() + "\n")


def read(folder: Path) -> Provenance | None:
    """What the folder of a run tells; None of one by an earlier version."""
    path = folder / FILE
    return from_json(path.read_bytes(), path) if path.exists() else None


def name(recipe: Training) -> str:
    """The known recipe that this one is most like, and what is otherwise: `clean, --stages.1.samples 1000`."""
    asked = _leaves(recipe)

    def changes(other: Training) -> list[str]:
        theirs = _leaves(other)
        return [f"--{key.replace('_', '-')} {value}" for key, value in asked.items() if value != theirs.get(key)]

    named: dict[str, Training] = {**published.RECIPES, **baselines.RECIPES}
    alike = [one for one, other in named.items() if type(other) is type(recipe)]
    known = min(alike, key=lambda one: len(changes(named[one])))
    told = changes(named[known])
    if len(told) > MOST_CHANGES:
        return f"{known}, with {len(told)} changes"
    return ", ".join([known, *told])


def _refusal(licence: licences.Licence | None) -> str:
    """Why a dataset is refused, and what to do."""
    if licence is None:
        return "was prepared before licences were kept: `rvm data prepare` it again, which adds its own"
    says = "does not allow commercial use" if licence.commercial == "no" else "does not say that it may be sold"
    return f"is not free ({licence.name}: {says}): name another dataset"


def _leaves(recipe: Training) -> dict[str, Any]:
    """What of a recipe is the recipe's; its batch may follow from the devices."""
    others = ("init", "batch", "scaling", "seed")
    return {key: value for key, value in flat(to_json(recipe)).items() if key not in others}


def _whole(
    recipe: Training,
    data: Sequence[Mapping[str, str]],
    initial: str,
    seen: Sequence[TrainingSet] = (),
    *,
    unfree: bool = False,
) -> Provenance:
    """All of it, whatever was seen before first; what is not free was allowed, since nothing has refused it."""
    sets = {(one.dataset, one.version): one for one in (*seen, *(TrainingSet(**one) for one in data))}
    whole = Provenance(tuple(sets.values()), name(recipe), initial)
    return dataclasses.replace(whole, unfree_allowed=unfree or bool(whole.unfree))
