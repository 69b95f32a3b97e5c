"""Which programs are compiled before a stage begins, what is told of them, and what is refused as too large."""

from types import SimpleNamespace

import jax
import pytest

from data_pipelines.sampling.schedule import ClipShape, StageData
from rvm_jax.errors import InputError
from rvm_jax.model.network import MattingNetwork
from train.device import optimizer, parallel
from train.device.programs import Compilation, Key, Programs
from train.recipe.published import MOBILENETV3
from train.run import compile_ahead, program_keys
from train.run.compile_ahead import Share

STAGES = [
    StageData(200, 8, ClipShape(2, 64), segmentation_size=32, buckets=2),
    StageData(0, 8, ClipShape(2, 64), segmentation_size=32, buckets=2),
    StageData(200, 8, ClipShape(2, 64), ClipShape(2, 128), segmentation_size=32, buckets=2),
    StageData(200, 8, ClipShape(4, 64), ClipShape(2, 128), segmentation_size=32, buckets=2),
]
SMALL = Key(segmentation=True, samples=8, frames=1, height=32, width=16, downsample_ratio=1.0, groups=("encoder",))
LARGE = Key(segmentation=False, samples=32, frames=2, height=64, width=48, downsample_ratio=0.5, groups=("encoder",))


@pytest.fixture
def compiled(monkeypatch):
    """The programs in the order in which they are compiled, which takes no time here: memory grows with the batch."""
    order = []

    def compile_(self, key, state, batch=None):
        order.append((key, self.network.remat, self.parts))
        memory = key.pixels / self.parts / (4 if self.network.remat else 1)
        return Compilation(SimpleNamespace(memory=memory, flops=3e9), 0.1, from_cache=key == SMALL)

    monkeypatch.setattr(Programs, "_compile", compile_)
    return order


def prepare(wanted, stops=lambda: False, **others):
    """What is told, with the programs."""
    programs, told = Programs(MattingNetwork("tiny", **others)), []
    finished = compile_ahead.compile_ahead(programs, wanted, None, Share(4), told.append, stops)
    return programs, told, finished


def test_what_needs_less_memory_updates_weights_as_before():
    how = optimizer.Update(ema=0.9)
    others = list(compile_ahead._with_less_memory(Programs(MattingNetwork("tiny"), 1, how), Share(4)))
    assert [flags for flags, _ in others] == ["--remat", "--remat --accumulation 2", "--remat --accumulation 4"]
    assert all(other.how == how for _, other in others)


def test_before_a_run_begins_come_its_stage_and_the_largest_of_the_later_ones():
    recipe = MOBILENETV3
    found = compile_ahead.first_keys(recipe, STAGES, 0)
    first = program_keys.needed_keys(recipe, STAGES, 0, 0)
    assert {key for key, stage in found.items() if stage == 0} == set(first)
    assert len(first) == 3 * 4
    later = {key: stage for key, stage in found.items() if stage > 0}
    # Stages 1 and 3 share the passes of low resolution, 3 and 4 those of high.
    high, low = sorted(later, key=lambda key: key.downsample_ratio)
    assert later == {high: 2, low: 3}
    assert (high.frames, high.height, high.width, high.downsample_ratio) == (2, 112, 112, 0.25)
    assert (low.frames, low.height, low.width, low.downsample_ratio) == (4, 56, 56, 1.0)
    assert not high.segmentation
    assert not low.segmentation


def test_a_run_that_goes_on_needs_nothing_of_stages_that_are_over():
    found = compile_ahead.first_keys(MOBILENETV3, STAGES, 399)
    assert set(found.values()) == {2, 3}
    assert sum(stage == 2 for stage in found.values()) == 3  # its last iteration has three passes
    assert compile_ahead.first_keys(MOBILENETV3, STAGES, 600) == {}


@pytest.mark.parametrize(("each", "refused_after"), [(4_500, 3), (600, None)])
def test_more_programs_than_a_process_has_room_for_are_refused(compiled, monkeypatch, each, refused_after):
    """Before XLA would end the process: on a CPU it finds no memory for the code of the fifteenth."""
    keys = [LARGE._replace(width=16 * number) for number in range(1, 49)]
    monkeypatch.setattr(compile_ahead, "AT_ONCE", 1)
    monkeypatch.setattr(compile_ahead, "_memory_maps", lambda: (300 + each * len(compiled), 65_530))
    monkeypatch.setattr(Programs, "compile", one_by_one)
    if refused_after is None:
        assert prepare(dict.fromkeys(keys, 0))[2]
        return
    told = (
        rf"^48 programs .* 65530 memory maps \(sysctl vm.max_map_count\): {refused_after} took {each * refused_after}\."
    )
    with pytest.raises(InputError, match=rf"{told} .* a smaller --buckets$"):
        prepare(dict.fromkeys(keys, 0))


def one_by_one(self, keys, state):
    for key in keys:
        self.compiled[key] = self._compile(key, state)
        yield key


def test_what_is_compiled_is_told(compiled):
    programs, told, finished = prepare({SMALL: 0, LARGE: 2})
    assert finished
    assert [key for key, *_ in compiled] == [LARGE, SMALL]
    assert programs.compiled.keys() == {LARGE, SMALL}
    assert told == [
        "compiling 2 programs",
        "compiled 2 programs (1 from the cache) in 0 s",
        "  stage 1: up to 0.00 GB of each device, for segmentation of 8 × 1 × 16x32 (3 GFLOP)",
        "  stage 3: up to 0.00 GB of each device, for matting of 32 × 2 × 48x64 at 0.5 (3 GFLOP)",
    ]
    told.clear()
    assert compile_ahead.compile_ahead(programs, {SMALL: 0}, None, Share(4), told.append, lambda: False)
    assert told == []


def test_it_is_left_when_the_run_is_told_to_stop(compiled):
    calls = []
    programs, told, finished = prepare({SMALL: 0, LARGE: 2}, stops=lambda: calls.append(0) is None)
    assert not finished
    assert len(calls) == len(programs.compiled) == 1
    assert told == ["compiling 2 programs"]


@pytest.mark.parametrize(
    ("limit", "remat", "mend"),
    [
        (LARGE.pixels - 1, False, "--remat"),
        (LARGE.pixels / 8, False, "--remat --accumulation 2"),
        (LARGE.pixels / 16, False, "--remat --accumulation 4"),
        (LARGE.pixels / 4 - 1, True, "--remat --accumulation 2"),
        (1, False, "fewer --stages.N.frames or --stages.N.high-frames, or on more devices"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(compiled, monkeypatch, limit, remat, mend):
    monkeypatch.setattr(parallel, "memory_limit", lambda: limit)
    with pytest.raises(InputError) as refused:
        prepare({LARGE: 2}, remat=remat)
    assert str(refused.value).startswith("stage 3: matting of 32 × 2 × 48x64 at 0.5 needs 0.00 GB of each device of")
    assert str(refused.value).endswith(f": start the same command with {mend}")


def test_a_compiler_that_runs_out_of_memory_is_the_users_error(monkeypatch):
    def compile_(self, key, state, batch=None):
        if not self.network.remat:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm")
        return Compilation(SimpleNamespace(memory=1, flops=1), 0.1, from_cache=False)

    monkeypatch.setattr(Programs, "_compile", compile_)
    with pytest.raises(
        InputError, match=r"needs more memory than a device .*has: start the same command with --remat$"
    ):
        prepare({LARGE: 2})
    monkeypatch.setattr(MattingNetwork, "clone", lambda self, remat: self)
    with pytest.raises(InputError, match=r"or on more devices$"):
        prepare({SMALL: 2})


@pytest.mark.parametrize(
    ("share", "remat", "mend"),
    [
        (Share(1), False, "--remat"),
        (Share(4), True, "--remat --accumulation 2"),
        (Share(4, asked=True), True, "--remat --clips-per-device 2 --accumulation 2"),
    ],
)
def test_devices_that_run_out_of_memory_later(share, remat, mend):
    programs = Programs(MattingNetwork("tiny", remat=remat))
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes")
    explained = compile_ahead.explain_out_of_memory(programs, share, error)
    assert str(explained) == f"the devices ran out of memory: start the same command with {mend}"
    other = jax.errors.JaxRuntimeError("INTERNAL: something else")
    assert compile_ahead.explain_out_of_memory(programs, share, other) is None
