"""The reading of compiled programs and the bounds that follow from it (`benchmarks/ahead.py`), without accelerators."""

import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ahead, hlo

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "ahead.py"
KB = 1024


def counted(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo.count(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_kernel_reads_and_writes_once():
    counts = counted(lambda x, y: jnp.sin(x) * y + 1, (KB,), (KB,))
    assert (counts.kernels, counts.bytes, counts.collectives) == (1, 3 * 4 * KB, {})


def test_of_what_is_cut_only_the_pieces_are_read():
    counts = counted(lambda x: jnp.sin(x[:KB]) + x[-KB:], (100 * KB,))
    assert (counts.kernels, counts.bytes) == (1, 3 * 4 * KB)


def test_a_loop_counts_as_often_as_it_runs():
    def loop(x, y):
        return jax.lax.scan(lambda carry, _: (carry @ y, None), x, None, length=7)[0]

    once, seven = (counted(function, (64, 64), (64, 64)) for function in (jnp.matmul, loop))
    assert 7 <= seven.kernels - once.kernels < 30
    assert seven.bytes >= 7 * once.bytes


def test_collectives_are_counted_with_their_bytes():
    mean = jax.pmap(lambda x, y: jax.lax.pmean(jnp.sin(x), "i") * jax.lax.psum(y.sum(), "i"), axis_name="i")
    given = [jax.ShapeDtypeStruct((8, n), jnp.float32) for n in (KB, 8)]
    counts = hlo.count(mean.lower(*given).compile().as_text())
    assert set(counts.collectives) == {"all-reduce"}
    assert counts.collective_bytes == 4 * (KB + 1)


TPU = """HloModule jit_f, is_scheduled=true

%fused (param_0.1: f32[100,8], param_1.1: f32[1,8], param_2.1: s32[]) -> f32[100,8] {
  %param_1.1 = f32[1,8]{1,0:T(8,128)} parameter(1)
  %param_0.1 = f32[100,8]{1,0:T(8,128)} parameter(0)
  %param_2.1 = s32[]{:T(128)S(6)} parameter(2)
  %zero = s32[] constant(0)
  ROOT %update = f32[100,8]{1,0:T(8,128)} dynamic-update-slice(%param_0.1, %param_1.1, %param_2.1, %zero)
}

ENTRY %main (x: f32[100,8], row: f32[1,8], i: s32[]) -> f32[100,8] {
  %x = f32[100,8]{1,0:T(8,128)} parameter(0)
  %row = f32[1,8]{1,0:T(8,128)} parameter(1)
  %i = s32[]{:T(128)S(6)} parameter(2)
  %copy-start = (f32[1,8]{1,0:T(8,128)S(1)}, f32[1,8]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%row)
  %copy-done = f32[1,8]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  ROOT %fusion = f32[100,8]{1,0:T(8,128)} fusion(%x, %copy-done, %i), kind=kLoop, calls=%fused
}
"""


def test_what_is_on_the_chip_is_not_in_memory_and_an_update_is_in_place():
    """A row of 32 bytes is copied to the chip, and from there into its place; and the number of the row is read.

    In memory, the row is a tile of eight rows of 128.
    """
    counts = hlo.count(TPU)
    assert counts.kernels == 2
    assert counts.bytes == 2 * 8 * 128 * 4 + 4


LOOP = """HloModule jit_f, is_scheduled=true

%below (carried: (s32[], f32[8])) -> pred[] {
  %end = s32[]{:T(128)} constant(7)
  %carried = (s32[]{:T(128)}, f32[8]{0:T(8)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%carried), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %end), direction=LT
}

%body (given: (s32[], f32[8])) -> (s32[], f32[8]) {
  %given = (s32[]{:T(128)}, f32[8]{0:T(8)}) parameter(0)
  %count = s32[]{:T(128)S(6)} get-tuple-element(%given), index=0
  %x = f32[8]{0:T(8)} get-tuple-element(%given), index=1
  %room = f32[8]{0:T(8)} custom-call(), custom_call_target="AllocateBuffer"
  %negated = f32[8]{0:T(8)} add(%x, %room)
  ROOT %next = (s32[]{:T(128)}, f32[8]{0:T(8)}) tuple(%count, %negated)
}

ENTRY %main (start: (s32[], f32[8])) -> (s32[], f32[8]) {
  %start = (s32[]{:T(128)}, f32[8]{0:T(8)}) parameter(0)
  ROOT %while = (s32[]{:T(128)}, f32[8]{0:T(8)}) while(%start), condition=%below, body=%body
}
"""


def test_a_loop_of_a_tpu_tells_by_its_condition_how_often_it_runs_and_room_is_no_kernel():
    counts = hlo.count(LOOP)
    assert (counts.kernels, counts.bytes) == (7, 7 * 3 * 32)


GPU = """HloModule jit_f, is_scheduled=true

%within (param_0.1: f32[100,8], param_1.1: f32[1,8]) -> f32[100,8] {
  %param_1.1 = f32[1,8]{1,0} parameter(1)
  %param_0.1 = f32[100,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %update = f32[100,8]{1,0} dynamic-update-slice(%param_0.1, %param_1.1, %zero, %zero)
  ROOT %twice = f32[100,8]{1,0} add(%update, %update)
}

%line (param_0.2: f32[100,8]) -> f32[1,8] {
  %param_0.2 = f32[100,8]{1,0} parameter(0)
  %negated = f32[100,8]{1,0} negate(%param_0.2)
  ROOT %slice = f32[1,8]{1,0} slice(%negated), slice={[0:1], [0:8]}
}

ENTRY %main (x: f32[100,8], row: f32[1,8]) -> f32[1,8] {
  %x = f32[100,8]{1,0} parameter(0)
  %row = f32[1,8]{1,0} parameter(1)
  %fusion = f32[100,8]{1,0} fusion(%x, %row), kind=kLoop, calls=%within
  ROOT %fusion.1 = f32[1,8]{1,0} fusion(%fusion), kind=kLoop, calls=%line
}
"""


def test_an_update_that_is_not_the_result_is_not_in_place_and_of_a_line_no_more_is_read():
    whole, row = 100 * 32, 32
    assert hlo.count(GPU).bytes == (whole + row + whole) + (row + row)


CUT = """HloModule jit_f, is_scheduled=true

%ends (param_0.1: f32[100,64], param_1.1: f32[64]) -> f32[2,64] {
  %param_0.1 = f32[100,64]{1,0} parameter(0)
  %param_1.1 = f32[64]{0} parameter(1)
  %broadcast = f32[100,64]{1,0} broadcast(%param_1.1), dimensions={1}
  %add = f32[100,64]{1,0} add(%param_0.1, %broadcast)
  %first = f32[1,64]{1,0} slice(%add), slice={[0:1], [0:64]}
  %last = f32[1,64]{1,0} slice(%add), slice={[99:100], [0:64]}
  ROOT %both = f32[2,64]{1,0} concatenate(%first, %last), dimensions={0}
}

%means (param_0.2: f32[100,64]) -> f32[50,32] {
  %param_0.2 = f32[100,64]{1,0} parameter(0)
  %upper = f32[50,64]{1,0} slice(%param_0.2), slice={[0:100:2], [0:64]}
  %lower = f32[50,64]{1,0} slice(%param_0.2), slice={[1:100:2], [0:64]}
  %rows = f32[50,64]{1,0} add(%upper, %lower)
  %left = f32[50,32]{1,0} slice(%rows), slice={[0:50], [0:64:2]}
  %right = f32[50,32]{1,0} slice(%rows), slice={[0:50], [1:64:2]}
  ROOT %sum = f32[50,32]{1,0} add(%left, %right)
}

%one (param_0.3: f32[100,64]) -> f32[100,1] {
  %param_0.3 = f32[100,64]{1,0} parameter(0)
  ROOT %channel = f32[100,1]{1,0} slice(%param_0.3), slice={[0:100], [7:8]}
}

ENTRY %main (x: f32[100,64], y: f32[64]) -> (f32[2,64], f32[50,32], f32[100,1]) {
  %x = f32[100,64]{1,0} parameter(0)
  %y = f32[64]{0} parameter(1)
  %fusion = f32[2,64]{1,0} fusion(%x, %y), kind=kInput, calls=%ends
  %fusion.1 = f32[50,32]{1,0} fusion(%x), kind=kLoop, calls=%means
  %fusion.2 = f32[100,1]{1,0} fusion(%x), kind=kLoop, calls=%one
  ROOT %results = (f32[2,64]{1,0}, f32[50,32]{1,0}, f32[100,1]{1,0}) tuple(%fusion, %fusion.1, %fusion.2)
}
"""


def test_what_is_read_is_what_the_results_need_and_no_less_than_the_memory_gives():
    """Two lines that are computed on their way; all of x, twice over; and of each line one number, of 32 bytes."""
    ends = 2 * 256 + 256 + 2 * 256
    means = 100 * 256 + 50 * 128
    one = 100 * 32 + 100 * 4
    assert hlo.count(CUT).bytes == ends + means + one


def test_of_an_array_on_the_chip_no_line_is_read_from_memory():
    written = 2 * 256 + 50 * 128 + 100 * 4
    assert hlo.count(CUT.replace("f32[100,64]{1,0}", "f32[100,64]{1,0:S(1)}")).bytes == written + 256


def test_the_bound_is_the_longest_of_three_and_the_collectives():
    counts = hlo.Counts(1000, int(3.35e9), Counter({"all-reduce": 100}), 900_000_000)
    of = partial(ahead.bound, ahead.CHIPS["h100"], counts, 9.89e11)
    assert of(1) == pytest.approx({"memory": 1, "arithmetic": 1, "launches": 2, "collectives": 0, "step": 2})
    near, far = 2 * 7 / 8 * 2 + 100 * 3 * 0.005, 2 * 63 / 64 * 18 + 100 * 6 * 0.005
    assert of(8)["step"] == pytest.approx(2 + near)
    assert of(64)["step"] == pytest.approx(2 + far)
    assert ahead.scaling(ahead.CHIPS["h100"], counts, 9.89e11)[64] == pytest.approx((2 + near) / (2 + far))


def test_a_compiler_that_is_missing_is_named_with_what_to_install(monkeypatch):
    def missing(**_):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", missing)
    with pytest.raises(SystemExit, match=r"^ahead.py: h100 needs .* pip install --no-deps jax-cuda13-plugin==\d"):
        ahead.devices("h100", 8)


@pytest.mark.parametrize("word", ["v5e", "v5e:5", "a100:1", "v5e:x"])
def test_a_target_that_there_is_not(word):
    result = subprocess.run([sys.executable, SCRIPT, word], capture_output=True, text=True)
    assert result.returncode == 2
    assert f"{word} is none of h100:1 h100:8" in result.stderr.splitlines()[-1]
