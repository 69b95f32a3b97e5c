"""Training, from the recipe to the finished network.

The number of the iteration is all the position that there is: batches, shapes and learning rates follow from it and
from the recipe, so a run that was stopped at any moment goes on from its last checkpoint as if nothing had happened.
"""

import contextlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate

import jax

from data_pipelines.pipelines.batches import Batch
from data_pipelines.sampling.schedule import Pass, StageData, stage_of
from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import signals
from rvm_jax.host.compilation_cache import enable_compilation_cache
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights import orbax_folders
from rvm_jax.weights.files import Weights, write_weights
from train.device import evaluation, optimizer, parallel
from train.device.programs import Programs, possible, program_key
from train.device.step import Metrics, TrainState, init
from train.recipe.options import Options
from train.recipe.recipe import Recipe, describe, for_devices, learning_rates, to_json
from train.run import input_pipeline, run_folder
from train.run.checkpoint import Checkpoints
from train.run.initial_state import initial_state
from train.tracking import report
from train.tracking.tracker import Tracker


@dataclass(frozen=True)
class Run:
    """What stays the same from the first iteration to the last."""

    recipe: Recipe
    options: Options
    sources: Sequence[input_pipeline.Sources]
    stages: Sequence[StageData]
    programs: Programs
    evaluate: Callable[[float], evaluation.Evaluate]
    checkpoints: Checkpoints
    tracker: Tracker

    @property
    def iterations(self) -> int:
        return sum(stage.iterations for stage in self.stages)


@dataclass(frozen=True)
class Iteration:
    """An iteration that the devices were given.

    Attributes:
        number: Counts from 0 over all stages.
        stage: Likewise.
        terms: What each kind of pass measures, still on the devices.
        rates: The learning rates.
        frames: How many all passes have.
        waited: Seconds until its batches were there.
    """

    number: int
    stage: int
    terms: Mapping[str, Metrics]
    rates: Mapping[str, float]
    frames: int
    waited: float


def train(recipe: Recipe, options: Options) -> None:
    """Train by a recipe in the folder `options.out`, going on where an earlier run of the same recipe stopped.

    Leaves `weights` (and `weights.pth`, where PyTorch is installed) and `report.html` there. When it is told to stop,
    by Ctrl-C or SIGTERM, it saves a checkpoint and raises `Stopped`.
    """
    if options.cpu_devices is not None:
        parallel.set_cpu_devices(options.cpu_devices)
    parallel.join_hosts(options.coordinator, options.process_id, options.process_count)
    enable_compilation_cache()
    recipe = for_devices(recipe, options.clips_per_device, jax.device_count())
    sources = input_pipeline.open_sources(recipe, options.data_dir)
    stages = input_pipeline.stage_data(recipe, sources)
    identity = {
        "recipe": to_json(recipe),
        "iterations": {str(number): stage.iterations for number, stage in enumerate(stages, 1)},
        "data": input_pipeline.fingerprints(sources),
    }
    network = MattingNetwork(
        recipe.variant,
        recipe.refiner,
        dtype=None if recipe.precision == "float32" else recipe.precision,
        axis_name=parallel.AXIS,
        remat=recipe.remat,
    )
    like = jax.eval_shape(partial(init, network), jax.random.key(recipe.seed))
    writes = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        with parallel.raise_together():
            # A run that goes on does not need what it began with, which may be gone by now.
            begins = writes and not orbax_folders.saved_iterations(options.out / orbax_folders.CHECKPOINTS)
            first = initial_state(network, recipe.seed, recipe.init) if begins else None
            if writes:
                stack.enter_context(run_folder.claim(options.out, identity))
            checkpoints = stack.enter_context(Checkpoints(options.out / orbax_folders.CHECKPOINTS, keep=options.keep))
        restored = checkpoints.restore(like)
        done, state = restored or (0, parallel.from_first_host(first, like))
        tracker = stack.enter_context(
            Tracker(
                options.out,
                done,
                sum(stage.iterations for stage in stages),
                validated=checkpoints.validated(done),
                wandb=options.wandb,
                project=options.wandb_project,
                silent=not writes,
            )
        )
        run = Run(
            recipe,
            options,
            sources,
            stages,
            Programs(network, recipe.accumulation),
            cache(partial(evaluation.program, network)),
            checkpoints,
            tracker,
        )
        _introduce(run, done)
        stop = stack.enter_context(signals.stop_requests())
        with _room_on_devices(recipe):
            state = _iterate(run, parallel.replicate(state), done, stop)
        if writes:
            _finish(run, parallel.read_back(state))


def _introduce(run: Run, done: int) -> None:
    """Tell what is going to be trained."""
    run.tracker.say(describe(run.recipe))
    iterations = " + ".join(str(stage.iterations) for stage in run.stages)
    run.tracker.say(
        f"\n{run.iterations} iterations ({iterations}) on {jax.device_count()} × {jax.devices()[0].device_kind}, in "
        f"{run.options.out}" + (f"; going on after {done}" if done else "")
    )
    if run.recipe.init is None and done == 0:
        run.tracker.say(
            "it starts from random weights; --init takes ImageNet's, which `rvm convert` makes of torchvision's"
        )


def _iterate(run: Run, state: TrainState, done: int, stop: signals.StopSignal) -> TrainState:
    """All iterations that are left, with their validations and checkpoints. `state` is that on the devices."""
    if _validates(run, done) and not run.checkpoints.validated(done):  # a run that is stopped leaves that for later
        _save(run, state, done, validates=True)
    restart = parallel.pmap(_with_fresh_moments, (0,), donated=(0,))
    running: Iteration | None = None
    told = ready = time.perf_counter()
    with contextlib.closing(input_pipeline.feed(run.recipe, run.stages, run.sources, done, *parallel.host())) as feed:
        for number, passes in feed:
            waited = time.perf_counter() - ready
            stage, in_stage = stage_of(run.stages, number)
            if in_stage == 0 and number > 0:
                state = restart(state)
            rates = learning_rates(run.recipe, stage, in_stage)
            state, terms = _passes(run, state, passes, rates)
            if running is not None:  # the devices are busy with this iteration, so that one is done soon
                told = _tell(run, running, told)
            frames = sum(run.stages[stage].samples(one.kind) * one.frames for one, _ in passes)
            running = Iteration(number, stage, terms, rates, frames, waited)
            done = number + 1
            signal = stop()
            stopped = parallel.should_stop(signal is not None, done)
            validates = _validates(run, done)
            if stopped or validates or done % run.options.save_every == 0:
                _tell(run, running, told)
                running = None
                _save(run, state, done, validates=validates and not stopped)
                if stopped:
                    run.checkpoints.wait()
                    raise Stopped(
                        f"stopped and saved after {done} of {run.iterations} iterations: the same command goes on",
                        signal,
                    )
                told = time.perf_counter()
            ready = time.perf_counter()
    return state


def _with_fresh_moments(state: TrainState) -> TrainState:
    """What a stage begins with: the weights of the one before."""
    return state._replace(moments=optimizer.init(state.params))


def _passes(
    run: Run, state: TrainState, passes: Sequence[tuple[Pass, Batch]], rates: Mapping[str, float]
) -> tuple[TrainState, Mapping[str, Metrics]]:
    """Give the devices the passes of an iteration."""
    terms: dict[str, Metrics] = {}
    for one, batch in passes:
        key = program_key(run.recipe, run.stages, one)
        new = key not in run.programs.seen
        state, terms[one.kind] = run.programs.run(key, state, parallel.shard(batch), rates)
        if new:
            seconds, from_cache = run.programs.seen[key]
            how = "loaded" if from_cache else "compiled"
            most = len(possible(run.recipe, run.stages))
            run.tracker.say(
                f"{how} {one.kind.replace('_', ' ')} of {one.frames} × {one.height} × {one.width} in {seconds:.0f} s: "
                f"program {len(run.programs.seen)} of at most {most}"
            )
    return state, terms


def _tell(run: Run, iteration: Iteration, told: float) -> float:
    """Wait for the numbers of an iteration and pass them on; returns the time. Raises for what is not finite."""
    terms = {
        f"{kind}/{term}": float(value)
        for kind, metrics in iteration.terms.items()
        for term, value in parallel.read_back(metrics).items()
    }
    for name, value in terms.items():
        if not math.isfinite(value):
            newest = run.checkpoints.newest()
            kept = "" if newest is None else f", and {run.checkpoints.folder / str(newest)} is kept; --init takes it"
            raise InputError(
                f"{name} is {value} in iteration {iteration.number} (stage {iteration.stage + 1}): training stopped"
                f"{kept}. In another --out, try lower --stages.{iteration.stage + 1}.rates, --warmup, or "
                "--precision float32"
            )
    now = time.perf_counter()
    memory = parallel.peak_memory()
    run.tracker.iteration(
        iteration.number,
        {
            "stage": iteration.stage + 1,
            **terms,
            **{f"learning_rate/{group}": rate for group, rate in iteration.rates.items()},
            "frames_per_second": iteration.frames / (now - told),
            "data_wait": min(1.0, iteration.waited / (now - told)),
            "compilations": sum(not program.from_cache for program in run.programs.seen.values()),
            **({} if memory is None else {"device_memory_gb": memory / 1e9}),
        },
    )
    return now


def _validates(run: Run, done: int) -> bool:
    """Whether it is time to validate after so many iterations: before the first, now and then, and after a stage."""
    ends = accumulate(stage.iterations for stage in run.stages)
    return done % run.options.validate_every == 0 or done in ends


def _save(run: Run, state: TrainState, done: int, *, validates: bool) -> None:
    """Save a checkpoint, validated if it is time."""
    stage, _ = stage_of(run.stages, max(done - 1, 0))
    mad = _validate(run, state, done, stage) if validates else None
    run.tracker.flush()  # a checkpoint must not be ahead of what is told about it
    run.checkpoints.save(done, parallel.read_back(state), stage=stage, mad=mad)


def _validate(run: Run, state: TrainState, done: int, number: int) -> float:
    """Validate as stage `number` has it, tell the figures with pictures, and return MAD."""
    stage = run.recipe.stages[number]
    evaluate = run.evaluate(stage.downsample_ratio if stage.high_frames else 1.0)
    batches = input_pipeline.validation_batches(
        run.recipe, stage, run.sources[number], jax.device_count(), *parallel.host()
    )
    with contextlib.closing(batches):
        measured, shown = evaluation.validate(evaluate, state, batches)
    run.tracker.validation(done, {f"validation/{name}": value for name, value in measured.items()}, shown)
    run.tracker.say(
        f"after {done} iterations: MAD {measured['mad']:.2f}, MSE {measured['mse']:.2f}, "
        f"dtSSD {measured['dtssd']:.2f}, foreground MAD {measured['foreground_mad']:.2f}"
    )
    return measured["mad"]


@contextlib.contextmanager
def _room_on_devices(recipe: Recipe) -> Iterator[None]:
    """Say what to do when the devices have too little memory."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"the devices have too little memory for {recipe.batch // jax.device_count()} clips each: try --remat, a "
            "larger --accumulation, a smaller --batch, or fewer --stages.N.frames"
        ) from error


def _finish(run: Run, state: TrainState) -> None:
    """Write the weights and the report."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    final = Weights(VARIANTS[run.recipe.variant], run.recipe.refiner, variables)
    names = ["weights", "weights.pth"] if importlib.util.find_spec("torch") else ["weights"]
    for name in names:
        write_weights(final, run.options.out / name, overwrite=True)
    run.tracker.flush()
    written = [report.write(run.options.out), *(run.options.out / name for name in names)]
    run.tracker.say(f"wrote {', '.join(map(str, written))}")
