"""Compilation ahead: before a stage begins, all programs that it needs are there, and known to fit on the devices."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax

from data_pipelines.sampling.schedule import StageData
from rvm_jax.errors import InputError
from rvm_jax.model.network import MattingNetwork
from train.device import parallel
from train.device.programs import AT_ONCE, Key, Programs
from train.device.step import TrainState
from train.recipe.baselines import AnyRecipe
from train.run.program_keys import needed_keys

SECONDS_BETWEEN_LINES = 30.0
EXHAUSTED = "RESOURCE_EXHAUSTED"
"""In what JAX says when devices have too little memory: TPUs when a program is compiled, GPUs when it runs."""
MANY_MAPS = 10_000
"""Memory maps of programs from which on it is worth asking whether there will be too many."""
FEWER_FRAMES = "fewer --stages.N.frames or --stages.N.high-frames, or on more devices"
SMALLER = "a smaller --stages.N.size, or on more devices"
"""For networks that see stills."""


class Share(NamedTuple):
    """The clips of a batch that are one device's; `asked` if the command says how many it computes at a time."""

    clips: int
    asked: bool = False

    def flags(self, parts: int) -> str:
        """What the command is given so that they are computed in so many parts."""
        each = f"--clips-per-device {self.clips // parts} " if self.asked else ""
        return f"{each}--accumulation {parts}"


def first_keys(recipe: AnyRecipe, stages: Sequence[StageData], done: int) -> dict[Key, int]:
    """What is compiled before a run goes on after `done` iterations, with the first stage that needs it.

    All of the stage that it is in, and the largest of the later ones, so that none proves too large after a day: of
    matting alone, with and without the refiner.
    """
    found: dict[Key, int] = {}
    for number in range(len(stages)):
        keys = needed_keys(recipe, stages, number, done)
        if found:
            matting = [key for key in keys if not key.segmentation]
            low, high = ([key for key in matting if (key.downsample_ratio == 1) == whole] for whole in (True, False))
            keys = low[:1] + high[:1]
        found = {**dict.fromkeys(keys, number), **found}
    return found


def compile_ahead(
    programs: Programs,
    wanted: Mapping[Key, int],
    state: TrainState,
    share: Share,
    tell: Callable[[str], None],
    stops: Callable[[], object],
) -> bool:
    """Compile programs, each with the stage that needs it, and tell of it. False if `stops` gives something meanwhile.

    `share`: of each device, of a batch.
    """
    missing = sorted(wanted.keys() - programs.compiled.keys(), key=lambda key: (-key.pixels, key))
    if not missing:
        return True
    begin = told = time.monotonic()
    maps, _ = _memory_maps()
    tell(f"compiling {_programs(len(missing))}" + (f", {AT_ONCE} at a time" if len(missing) > AT_ONCE > 1 else ""))
    with closing(_compiled(programs, missing, wanted, state, share)) as ready:
        for count, _ in enumerate(ready, 1):
            if stops():
                return False
            _refuse_too_many(count, len(missing), maps)
            if time.monotonic() - told > SECONDS_BETWEEN_LINES and count < len(missing):
                told = time.monotonic()
                tell(f"{count} of {_programs(len(missing))} compiled, in {told - begin:.0f} s")
    hits = sum(programs.compiled[key].from_cache for key in missing)
    cached = f" ({'all' if hits == len(missing) else hits} from the cache)" if hits else ""
    tell(f"compiled {_programs(len(missing))}{cached} in {time.monotonic() - begin:.0f} s")
    for stage in sorted({wanted[key] for key in missing}):
        tell(_largest(programs, stage, [key for key in missing if wanted[key] == stage]))
    return True


@contextmanager
def explaining_out_of_memory(programs: Programs, share: Share) -> Iterator[None]:
    """Say what to do when the devices, with such a share each, have too little memory in the block."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise (explain_out_of_memory(programs, share, error) or error) from error


def explain_out_of_memory(programs: Programs, share: Share, error: jax.errors.JaxRuntimeError) -> InputError | None:
    """What to do when devices with such a share each ran out of memory in training; None for any other error."""
    if EXHAUSTED not in str(error):
        return None
    flags, _ = next(_with_less_memory(programs, share), (_last_resort(programs), None))
    return InputError(f"the devices ran out of memory: start the same command with {flags}")


def _compiled(
    programs: Programs, keys: Sequence[Key], stages: Mapping[Key, int], state: TrainState, share: Share
) -> Generator[Key]:
    """As `Programs.compile`, but refuses what does not fit on the devices."""
    with closing(programs.compile(keys, state)) as begun:
        for key in keys:
            try:
                next(begun)
            except jax.errors.JaxRuntimeError as error:
                if EXHAUSTED not in str(error):
                    raise
                raise _too_large(programs, stages[key], key, state, share) from error
            if not _fits(programs, key):
                raise _too_large(programs, stages[key], key, state, share)
            yield key


def _refuse_too_many(count: int, of: int, before: int) -> None:
    """Foresee that compiled programs use up the memory maps of a process, at which XLA would end it.

    On CPUs a program of the published recipes has 4,500, and Linux allows 65,530.

    Args:
        count: How many programs have been compiled.
        of: How many there will be.
        before: The memory maps that there were before the first.
    """
    now, allowed = _memory_maps()
    begun = min(count + AT_ONCE - 1, of)
    if now - before > MANY_MAPS and now + (now - before) / begun * (of - begun) > allowed:
        raise InputError(
            f"{_programs(of)} are too many for a process on this machine, which may have {allowed} memory maps (sysctl "
            f"vm.max_map_count): {count} took {now - before}. Start the same command with a smaller --buckets"
        )


def _memory_maps() -> tuple[int, float]:
    """How many memory maps this process has, and may have; none, and any number, where Linux does not tell."""
    try:
        have = Path("/proc/self/maps").read_bytes().count(b"\n")
        return have, int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:
        return 0, float("inf")


def _fits(programs: Programs, key: Key) -> bool:
    limit = parallel.memory_limit()
    return limit is None or programs.compiled[key].program.memory <= limit


def _too_large(programs: Programs, stage: int, key: Key, state: TrainState, share: Share) -> InputError:
    """The message names what works: it is compiled as well, until one fits."""
    compiled, limit = programs.compiled.get(key), parallel.memory_limit()
    device = "device" if limit is None else f"device of {limit / 1e9:.2f} GB"
    needs = f"more memory than a {device} has"
    if compiled is not None:
        needs = f"{compiled.program.memory / 1e9:.2f} GB of each {device}"
    mend = _last_resort(programs)
    for flags, other in _with_less_memory(programs, share):
        try:
            fits = all(_fits(other, one) for one in other.compile([key], state))
        except jax.errors.JaxRuntimeError:
            fits = False
        if fits:
            mend = flags
            break
    return InputError(f"stage {stage + 1}: {key.describe()} needs {needs}: start the same command with {mend}")


def _last_resort(programs: Programs) -> str:
    return FEWER_FRAMES if isinstance(programs.network, MattingNetwork) else SMALLER


def _with_less_memory(programs: Programs, share: Share) -> Iterator[tuple[str, Programs]]:
    """What else the command may be given that needs less of devices with such a share; what costs least first."""
    frugal, remat = programs.network, ""
    if isinstance(frugal, MattingNetwork):
        frugal, remat = frugal.clone(remat=True), "--remat "
        if not programs.network.remat:
            yield remat.strip(), Programs(frugal, programs.parts, programs.how)
    for parts in range(programs.parts + 1, share.clips + 1):
        if share.clips % parts == 0:
            yield f"{remat}{share.flags(parts)}", Programs(frugal, parts, programs.how)


def _largest(programs: Programs, stage: int, keys: Sequence[Key]) -> str:
    most = max(keys, key=lambda key: programs.compiled[key].program.memory)
    program = programs.compiled[most].program
    return (
        f"  stage {stage + 1}: up to {program.memory / 1e9:.2f} GB of each device, for {most.describe()} "
        f"({program.flops / 1e9:.0f} GFLOP)"
    )


def _programs(count: int) -> str:
    return "1 program" if count == 1 else f"{count} programs"
