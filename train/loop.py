"""The training loop, from the recipe to the finished network.

The number of the iteration is all the position that there is: batches, shapes and learning rates follow from it and
from the recipe, so a run that was stopped at any moment goes on from its last checkpoint as if nothing had happened.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn

import jax

from data_pipelines.pipelines.batches import Batch
from data_pipelines.pipelines.workers import Workers
from data_pipelines.sampling.schedule import Pass, stage_of
from rvm_jax.errors import InputError, Stopped
from rvm_jax.host import buckets, signals
from rvm_jax.host.compilation_cache import IN_RUN, enable_compilation_cache
from rvm_jax.host.paths import is_url
from rvm_jax.weights import orbax_folders
from train.device import cluster, evaluation, flops, hosts, optimizer, parallel, repeatable
from train.device.joined import split
from train.device.programs import Key, Programs
from train.device.step import Metrics, TrainState, init, joined, with_average
from train.recipe.baselines import AnyRecipe
from train.recipe.division import Division, Kept, describe_batch, describe_parts, settle
from train.recipe.options import Options
from train.recipe.recipe import learning_rates
from train.recipe.text import describe, to_json
from train.run import course, input_pipeline, origin, run_folder
from train.run.agreement import agree
from train.run.bucket_run import BucketRun
from train.run.checkpoint import Checkpoints
from train.run.compile_ahead import Share, compile_ahead, explaining_out_of_memory, first_keys
from train.run.course import Course
from train.run.initial_state import initial_state
from train.run.program_keys import needed_keys, program_key
from train.tracking import profiling, provenance, report
from train.tracking.clock import Clock, PassTimes, speed
from train.tracking.profiling import Profile
from train.tracking.tracker import Tracker

ANSWER = "stopping, as soon as what has begun is done and saved; the same signal once more acts without that"


@dataclass(frozen=True)
class Run:
    """What stays the same from the first iteration to the last."""

    recipe: AnyRecipe
    options: Options
    division: Division
    course: Course
    programs: Programs
    workers: Workers
    checkpoints: Checkpoints
    tracker: Tracker
    clock: Clock
    profile: Profile
    bucket: BucketRun
    stops: signals.StopSignal

    @property
    def iterations(self) -> int:
        return sum(stage.iterations for stage in self.course.stages)

    @property
    def share(self) -> Share:
        return Share(self.division.batch // jax.device_count(), asked=self.options.clips_per_device is not None)


@dataclass(frozen=True)
class Iteration:
    """An iteration that the devices were given.

    Attributes:
        number: Counts from 0 over all stages.
        stage: Likewise.
        metrics: Of each kind of pass, still on the devices.
        rates: The learning rates.
        frames: How many all passes have.
        flops: How many operations they take of each device.
        passes: When each of them came, and was computed.
    """

    number: int
    stage: int
    metrics: Mapping[str, Metrics]
    rates: Mapping[str, float]
    frames: int
    flops: float
    passes: Sequence[PassTimes]


def train(recipe: AnyRecipe, options: Options, prepare: Callable[[Any, Options], Course] = course.matting) -> None:
    """Train by a recipe in the folder `options.out`, going on where an earlier run of the same recipe stopped.

    `prepare` opens what the recipe brings. Leaves the weights and `report.html` there. When it is told to stop,
    by Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2, it saves a checkpoint and raises `Stopped`. On several hosts, an exception
    on one of them ends the processes of all.
    """
    clock = Clock()
    # Devices and hosts
    repeatable.set_flags()
    if options.cpu_devices is not None:
        parallel.set_cpu_devices(options.cpu_devices)
    cluster.join(options.coordinator, options.process_id, options.process_count, options.local_devices)
    with hosts.together() as others, BucketRun(options.out, first_host=jax.process_index() == 0) as bucket:
        in_bucket = buckets.join(options.out, IN_RUN) if is_url(options.out) else None
        enable_compilation_cache(options.compilation_cache, default=in_bucket)
        _train(recipe, options, prepare, others, bucket, clock)


def _train(
    recipe: AnyRecipe,
    options: Options,
    prepare: Callable[[Any, Options], Course],
    others: hosts.Hosts,
    bucket: BucketRun,
    clock: Clock,
) -> None:
    # What the batch is divided into
    first_host = jax.process_index() == 0
    kept = parallel.word_from_first_host(run_folder.kept(bucket.folder) if first_host else None)
    recipe, division = settle(recipe, options, jax.device_count(), kept and Kept(*kept))

    # Data and network
    brought = prepare(recipe, options)
    digests = input_pipeline.fingerprints(brought.sources)
    identity: dict[str, Any] = {
        "recipe": to_json(recipe),
        "iterations": {str(number): stage.iterations for number, stage in enumerate(brought.stages, 1)},
        "data": digests,
        "licences": origin.of_datasets(recipe, digests, options.data_dir),
    }
    agree(others, identity, options)
    total = sum(stage.iterations for stage in brought.stages)
    if options.profiled and options.profiled.stop > total:
        raise InputError(f"--profile {options.profile}: expected iterations below {total}, which is how many there are")

    how = optimizer.of_recipe(recipe)
    shapes = jax.eval_shape(lambda key: with_average(init(brought.network, key), how), jax.random.key(recipe.seed))

    with contextlib.ExitStack() as stack:
        # The run's folder, and the state from which it begins or goes on
        folder = bucket.folder / orbax_folders.CHECKPOINTS
        changed: list[str] = []
        # A run that goes on does not need what it began with, which may be gone by now.
        begins = first_host and not orbax_folders.saved_iterations(folder)
        initial = brought.read_initial(recipe.init) if begins and recipe.init is not None else None
        if first_host:
            data = identity["licences"]
            told = (
                origin.of_new_run(recipe, data, initial)
                if begins
                else origin.of_resumed_run(recipe, data, bucket.folder)
            )
            changed = stack.enter_context(run_folder.claim(bucket.folder, identity, options.out))
            origin.write(told, bucket.folder)
            changed += provenance.changes(bucket.folder)
            bucket.begin()
        first = with_average(initial_state(brought.network, recipe.seed, initial), how) if begins else None
        checkpoints = stack.enter_context(Checkpoints(folder, keep=options.keep))
        done, state = checkpoints.restore(shapes) or (0, parallel.from_first_host(first, shapes))

        # Metrics
        stack.enter_context(clock)
        tracker = Tracker(
            bucket.folder,
            done,
            total,
            validated=checkpoints.validated(done),
            wandb=options.wandb,
            project=options.wandb_project,
            artifacts=options.wandb_artifacts,
            clock=clock,
            session={"accumulation": division.parts, "remat": options.remat, "options": options.given()},
            silent=not first_host,
            named=options.out,
        )
        stack.enter_context(tracker)
        traced, place = options.profiled if first_host else None, bucket.folder / profiling.NAME
        profile = stack.enter_context(Profile(traced, place, tracker.message, bucket.name(place)))
        stops = others.agree_on_stopping(stack.enter_context(signals.stop_requests(ANSWER)))
        tools = checkpoints, tracker, clock, profile, bucket, stops
        programs = Programs(brought.network, division.parts, how)
        workers = stack.enter_context(input_pipeline.open_workers(options, others))
        run = Run(recipe, options, division, brought, programs, workers, *tools)
        _log_start(run, done, changed)

        # Iterations
        stack.push(others.tell)
        with explaining_out_of_memory(programs, run.share), clock.during("host"):
            state = _train_iterations(run, parallel.replicate(joined(state)), done)

        # The trained network
        if first_host:
            _write_results(run, split(parallel.read_back(state)))


def _log_start(run: Run, done: int, changed: Iterable[str]) -> None:
    run.tracker.message(describe(run.recipe))
    iterations = " + ".join(str(stage.iterations) for stage in run.course.stages)
    run.tracker.message(
        f"\n{run.iterations} iterations ({iterations}) on {jax.device_count()} × {jax.devices()[0].device_kind}, in "
        f"{run.options.out}" + (f"; going on after {done}" if done else "")
    )
    if run.bucket.url is not None:
        run.tracker.message(f"it works in {run.bucket.folder}, and copies that to {run.bucket.url} at each checkpoint")
    for line in (
        *changed,
        *describe_batch(run.recipe, run.division),
        *describe_parts(run.division, run.options, jax.device_count()),
    ):
        run.tracker.message(line)
    if run.options.profiled and run.options.profiled.stop <= done:
        run.tracker.message(f"--profile {run.options.profile}: these iterations are done, so nothing is traced")
    if run.recipe.init is None and done == 0 and run.recipe.variant != "tiny":
        run.tracker.message(f"it starts from random weights; --init takes {run.course.starts}")


def _train_iterations(run: Run, state: TrainState, done: int) -> TrainState:
    """All iterations that are left, with their validations and checkpoints. `state` is that on the devices."""
    _compile(run, first_keys(run.recipe, run.course.stages, done), state, done)
    if _validates(run, done) and not run.checkpoints.validated(done):  # a run that is stopped leaves that for later
        _save(run, state, done, validates=True)
    if run.stops():
        _save_and_stop(run, state, done)
    fresh_moments = parallel.pmap(_with_fresh_moments, (0,), donated=(0,))
    pending: Iteration | None = None  # the devices compute it
    parts = run.division.parts
    batches = input_pipeline.feed(
        run.recipe, run.course.stages, run.course.sources, done, *parallel.host(), parts, run.workers
    )
    with contextlib.closing(batches):
        for number, passes in run.clock.feed(batches):
            stage, in_stage = stage_of(run.course.stages, number)
            if in_stage == 0 and number > 0:
                keys = needed_keys(run.recipe, run.course.stages, stage, number)
                _compile(run, dict.fromkeys(keys, stage), state, done)
                state = fresh_moments(state)
            rates = learning_rates(run.recipe, stage, in_stage, run.course.stages[stage].iterations)
            state, iteration = _dispatch(run, state, number, passes, rates)
            if pending is not None:  # the devices are busy with this iteration, so that one is done soon
                _log_iteration(run, pending)
            pending = iteration

            done = number + 1
            stops = run.stops() is not None
            validates = _validates(run, done)
            if stops or validates or done % run.options.save_every == 0:
                _log_iteration(run, pending)
                pending = None
                if stops:
                    _save_and_stop(run, state, done)
                _save(run, state, done, validates=validates)
                if run.stops():
                    _save_and_stop(run, state, done)
    return state


def _compile(run: Run, wanted: Mapping[Key, int], state: TrainState, done: int) -> None:
    """Compile programs before they are needed; stop if told to meanwhile."""
    with run.clock.during("compiling"):
        whole = compile_ahead(run.programs, wanted, state, run.share, run.tracker.message, run.stops)
    if not whole:
        _save_and_stop(run, state, done)


def _save_and_stop(run: Run, state: TrainState, done: int) -> NoReturn:
    """What is saved already stays as it is."""
    _save(run, state, done, validates=False)
    run.checkpoints.wait()
    raise Stopped(
        f"stopped and saved after {done} of {run.iterations} iterations: the same command goes on",
        run.stops(),
        run.options.requeue_status,
    )


def _with_fresh_moments(state: TrainState) -> TrainState:
    """What a stage begins with: the weights of the one before."""
    return state._replace(moments=optimizer.init(state.params))


def _dispatch(
    run: Run,
    state: TrainState,
    number: int,
    passes: Iterable[tuple[PassTimes, tuple[Pass, Batch]]],
    rates: Mapping[str, float],
) -> tuple[TrainState, Iteration]:
    """Give the devices the passes of an iteration, each as soon as its batch is there."""
    stage, _ = stage_of(run.course.stages, number)
    metrics: dict[str, Metrics] = {}
    frames, operations, timed = 0, 0.0, []
    with run.profile.step(number):
        for times, (one, batch) in passes:
            key = program_key(run.recipe, run.course.stages, one)
            shards = parallel.shard(batch, run.division.parts)
            times.given = time.perf_counter()
            state, metrics[one.kind] = run.programs.run(key, state, shards, rates)
            run.clock.dispatched(times, shards, metrics[one.kind])
            frames += run.course.stages[stage].samples(one.kind) * one.frames
            operations += run.programs.compiled[key].program.flops
            timed.append(times)
    return state, Iteration(number, stage, metrics, rates, frames, operations, timed)


def _log_iteration(run: Run, iteration: Iteration) -> None:
    """Wait for the metrics of an iteration and log them."""
    metrics = {
        f"{kind}/{name}": float(value)
        for kind, metrics in iteration.metrics.items()
        for name, value in parallel.read_back(metrics).items()
    }
    seconds = run.clock.end_iteration(iteration.passes)
    run.profile.ended(iteration.number)
    _raise_if_not_finite(run, iteration, metrics)
    memory = parallel.peak_memory()
    run.tracker.log_iteration(
        iteration.number,
        {
            "stage": iteration.stage + 1,
            **metrics,
            **{f"learning_rate/{group}": rate for group, rate in iteration.rates.items()},
            **speed(seconds, iteration.frames, iteration.flops, flops.peak()),
            "compilations": sum(not program.from_cache for program in run.programs.compiled.values()),
            **({} if memory is None else {"device_memory_gb": memory / 1e9}),
        },
    )


def _raise_if_not_finite(run: Run, iteration: Iteration, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            newest, stage = run.checkpoints.newest(), iteration.stage + 1
            skipped = "".join(f" --stages.{number}.iterations 0" for number in range(1, stage))
            where = run.bucket.name(run.bucket.folder / orbax_folders.CHECKPOINTS / str(newest))
            kept = "" if newest is None else f"`--init {where}{skipped}` with "
            raise InputError(
                f"{name} is {value} in iteration {iteration.number} (stage {stage}): training stopped. In another "
                f"--out, try {kept}lower --stages.{stage}.rates, --warmup, or --precision float32"
            )


def _validates(run: Run, done: int) -> bool:
    """Whether it is time to validate after so many iterations: before the first, now and then, and after a stage."""
    ends = accumulate(stage.iterations for stage in run.course.stages)
    return done % run.options.validate_every == 0 or done in ends


def _save(run: Run, state: TrainState, done: int, *, validates: bool) -> None:
    """Save a checkpoint, validated if it is time."""
    stage, _ = stage_of(run.course.stages, max(done - 1, 0))
    mad = None
    if validates:
        with run.clock.during("validation"):
            mad = _validate(run, state, done, stage)
    with run.clock.during("checkpoints"):
        run.tracker.flush()  # a checkpoint must not be ahead of its metrics
        run.bucket.wait()
        run.checkpoints.save(done, split(parallel.read_back(state)), stage=stage, mad=mad)
        run.bucket.push(run.checkpoints.wait)


def _validate(run: Run, state: TrainState, done: int, number: int) -> float | None:
    """Validate as stage `number` has it, log the metrics with pictures, and return MAD; None if it is to stop."""
    stage = run.recipe.stages[number]
    evaluate = evaluation.program(run.course.network, stage.validation_ratio)
    batches = input_pipeline.validation_batches(
        run.recipe, stage, run.course.sources[number], jax.device_count(), *parallel.host(), run.workers
    )
    with contextlib.closing(batches):
        found = evaluation.validate(evaluate, state, batches, run.stops)
    if found is None:
        return None
    measured, shown = found
    run.tracker.log_validation(done, {f"validation/{name}": value for name, value in measured.items()}, shown)
    run.tracker.message(
        f"after {done} iterations: MAD {measured['mad']:.2f}, MSE {measured['mse']:.2f}, "
        f"dtSSD {measured['dtssd']:.2f}, foreground MAD {measured['foreground_mad']:.2f}"
    )
    return measured["mad"]


def _write_results(run: Run, state: TrainState) -> None:
    """Write the weights and the report."""
    weights = run.course.write(state.variables, run.bucket.folder, origin.read(run.bucket.folder))
    run.tracker.flush()
    written = [report.write(run.bucket.folder), *weights]
    run.bucket.finish()
    run.tracker.message(f"wrote {', '.join(str(run.bucket.name(path)) for path in written)}")
