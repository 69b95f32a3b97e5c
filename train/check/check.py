"""The check before a long run, top to bottom: `rvm train check` prints what it finds, and whether to go."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import jax

from data_pipelines.pipelines.workers import Workers
from data_pipelines.sampling.schedule import StageData
from rvm_jax.errors import InputError
from rvm_jax.host.compilation_cache import enable_compilation_cache
from rvm_jax.weights.files import read_network
from rvm_jax.weights.provenance import Provenance
from train.check import costs, data, figures, overfit
from train.check.findings import Finding
from train.check.options import CheckOptions
from train.device import optimizer, parallel, repeatable
from train.device.programs import Key, Programs
from train.device.step import TrainState, joined, with_average
from train.recipe.division import settle
from train.recipe.options import Options
from train.recipe.recipe import Recipe
from train.run import course, input_pipeline, origin
from train.run.compile_ahead import Share, compile_ahead, explaining_out_of_memory
from train.run.initial_state import initial_state
from train.run.program_keys import needed_keys, program_key


def check(recipe: Recipe, options: Options, asked: CheckOptions) -> bool:
    """Print a line for all that is looked at, and `go` or `no-go`; gives whether it is `go`. Leaves nothing behind.

    What would stop the run at once, such as data that is not there, raises `InputError` as the run would.
    """
    repeatable.set_flags()
    if options.cpu_devices is not None:
        parallel.set_cpu_devices(options.cpu_devices)
    enable_compilation_cache(options.compilation_cache)
    faults = 0
    for found in _findings(recipe, options, asked):
        print(found, flush=True)
        faults += found.what == "fault"
    print(f"no-go: {faults} fault{'s' * (faults > 1)}" if faults else "go", flush=True)
    return not faults


def _findings(recipe: Recipe, options: Options, asked: CheckOptions) -> Iterator[Finding]:
    recipe, division = settle(recipe, options, jax.device_count())
    network = None if asked.people is None else read_network(asked.people)

    # Data
    run = course.matting(recipe, options)
    sources, stages = run.sources, run.stages
    names = input_pipeline.fingerprints(sources)
    licences = origin.of_datasets(recipe, names, options.data_dir)
    initial = None if recipe.init is None else run.read_initial(recipe.init)
    yield _of_licences(origin.of_new_run(recipe, licences, initial))
    yield from data.look(names, options.data_dir, network)

    # Numbers
    found, seconds_a_pixel = figures.check(recipe.variant, asked.figures or figures.STORED, store=asked.store)
    yield found
    if jax.default_backend() == "cpu":
        yield from costs.forecast(recipe, stages, seconds_a_pixel)

    # Memory, learning and time
    programs = Programs(run.network, division.parts, optimizer.of_recipe(recipe))
    share = Share(division.batch // jax.device_count(), asked=options.clips_per_device is not None)
    # Frozen norms would keep statistics of random weights that mean nothing.
    start = initial_state(run.network, recipe.seed, initial if recipe.freeze_norms else None)
    start = with_average(start, programs.how)

    def first() -> TrainState:
        return parallel.replicate(joined(start))

    try:
        compile_ahead(programs, _largest(recipe, stages), first(), share, print, lambda: None)
        with (
            explaining_out_of_memory(programs, share),
            Workers(options.data_processes, options.data_threads) as workers,
        ):
            with closing(
                input_pipeline.feed(recipe, stages, sources, 0, parts=division.parts, workers=workers)
            ) as feed:
                _, passes = next(feed)
                one, batch = next(passes)
            yield overfit.check(programs, program_key(recipe, stages, one), first(), batch)
            yield from costs.measure(recipe, stages, sources, programs, first(), workers)
    except InputError as error:
        yield Finding("fault", str(error))


def _of_licences(told: Provenance) -> Finding:
    if told.unfree_allowed:
        what = told.unfree or [told.initial]
        return Finding("note", f"not free, or not said to be: {', '.join(what)}; the weights will tell")
    return Finding("fine", f"all {len(told.data)} datasets allow commercial use; it begins from {told.initial}")


def _largest(recipe: Recipe, stages: Sequence[StageData]) -> dict[Key, int]:
    """The largest program of each kind of pass of each stage, which takes the most memory."""
    found: dict[tuple[object, ...], tuple[Key, int]] = {}
    for number in range(len(stages)):
        for key in needed_keys(recipe, stages, number, 0):  # the largest first
            found.setdefault((number, key.segmentation, key.frames, key.downsample_ratio), (key, number))
    return dict(reversed(found.values()))
