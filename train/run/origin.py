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
from rvm_jax.weights.files import contents_of
from rvm_jax.weights.provenance import FILE, Provenance, TrainingSet, from_json
from train.recipe import baselines, published
from train.recipe.text import to_json
from train.recipe.training import Training
from train.run import run_folder
from train.run.identity import flat

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
        licence = licences.read(folder) or UNSAID
        if recipe.unfree == "refuse" and licence.commercial != "yes":
            says = "does not allow commercial use" if licence.commercial == "no" else "does not say that it may be sold"
            raise InputError(
                f"{name} is not free ({licence.name}: {says}): name another dataset, or give --unfree allow, which the "
                "weights will tell"
            )
        told = licence.name, licence.link, licence.commercial, licence.attribution
        found.append(dataclasses.asdict(TrainingSet(name, Path(folder).name, *told)))
    return found


def of_run(recipe: Training, data: Sequence[Mapping[str, str]], folder: Path, *, begins: bool) -> Provenance:
    """What a run in this folder, on data as `of_datasets` gives them, will tell of its weights.

    One that goes on tells what it began from, and of data that it has seen, whatever it was given since.
    """
    before = None if begins else read(folder)
    if begins:
        initial, seen, unfree = _initial(recipe)
    elif before is None:  # it began before runs told of it, with weights that may be gone by now
        began = run_folder.initial(folder)
        initial, seen, unfree = (RANDOM, (), False) if began is None else (Path(began).name, (), True)
    else:
        initial, seen, unfree = before.initial, before.data, before.unfree_allowed
    sets = {(one.dataset, one.version): one for one in (*seen, *(TrainingSet(**one) for one in data))}
    whole = Provenance(tuple(sets.values()), name(recipe), initial)
    return dataclasses.replace(whole, unfree_allowed=unfree or bool(whole.unfree))


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


def _leaves(recipe: Training) -> dict[str, Any]:
    """What of a recipe is the recipe's; its batch may follow from the devices."""
    others = ("init", "batch", "scaling", "seed")
    return {key: value for key, value in flat(to_json(recipe)).items() if key not in others}


def _initial(recipe: Training) -> tuple[str, tuple[TrainingSet, ...], bool]:
    """What training begins from, what that was trained on, and whether that may have been unfree."""
    if recipe.init is None:
        return RANDOM, (), False
    with contents_of(recipe.init) as contents:
        told = contents.provenance
    if recipe.unfree == "refuse" and (told is None or told.unfree or told.unfree_allowed):
        why = "which says not what it was trained on" if told is None else "which was trained on data that is not free"
        raise InputError(
            f"--init {recipe.init}, {why}: begin without, or with weights of `rvm train clean`, or give --unfree "
            "allow, which the weights will tell"
        )
    data, unfree = ((), True) if told is None else (told.data, told.unfree_allowed)
    return Path(recipe.init).name, data, unfree
