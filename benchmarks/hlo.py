"""What a compiled program does, read from the text of its HLO: kernels, bytes to and from memory, collectives.

The counts are of what is launched: a fusion is one kernel, which reads of its operands what it needs, once, and writes
its results once. A loop counts as often as it runs, if XLA knows how often.
"""

import re
from collections import Counter
from itertools import chain
from math import prod
from typing import NamedTuple

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
"""Bytes of an element."""
NOTHING = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("copy-done", "slice-done", "async-done", "async-update", "all-reduce-done", "all-gather-done"),
    *("collective-permute-done", "opt-barrier", "send-done", "recv-done"),
}
"""Operations that launch no kernel, or are counted where they begin."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
OF_MANY = {
    *("reduce", "reduce-window", "dot", "convolution", "sort", "scatter", "select-and-scatter"),
    *("custom-call", "fusion", "call", "map", "tuple"),
}
"""Operations of which an element takes more than one of an operand's. Of others that are fused it takes one at most."""
FETCHED = 32
"""Bytes at least that a memory gives."""
FORMS = ("gather", "scatter", "select-and-scatter", "sort", "transpose", "copy", "convolution")
"""Operations that are asked for by name, inside of fusions too."""


class Instruction(NamedTuple):
    """A line of a computation."""

    shape: str
    operation: str
    operands: list[str]
    rest: str
    root: bool


Computation = dict[str, Instruction]


class Counts(NamedTuple):
    """What one run of a program does.

    Attributes:
        kernels: Launched, of any kind.
        bytes: Read from and written to memory.
        collectives: How many of each kind.
        collective_bytes: Of their operands, all together.
    """

    kernels: int
    bytes: int
    collectives: Counter[str]
    collective_bytes: int


def count(text: str) -> Counts:
    """Of the HLO of a compiled program."""
    return _count(parse(text), "ENTRY")


def forms(text: str) -> dict[str, int]:
    """How often operations of certain kinds are written down, loops once."""
    return {name: len(re.findall(rf" {name}\(", text)) for name in FORMS}


def parse(text: str) -> dict[str, Computation]:
    """The computations by name; the main one is called ENTRY."""
    found: dict[str, Computation] = {}
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?(\S+) \(.*\{$", line):
            found[current := "ENTRY" if head[1] else head[2]] = {}
        elif one := re.match(r"\s+(ROOT )?%?(\S+) = (\(.*?\)|\S+) ([a-z][a-z-]*)\((.*)", line):
            given, _, rest = one[5].partition(")")
            while given.count("(") > given.count(")"):  # a parenthesis of a layout, T(8,128)
                more, _, rest = rest.partition(")")
                given += ")" + more
            operands = [given] if one[4] in ("parameter", "constant") else re.findall(r"%([\w.-]+)", given)
            found[current][one[2]] = Instruction(one[3], one[4], operands, rest, bool(one[1]))
    return found


def size(shape: str, on_chip: bool = False) -> int:
    """Bytes of a shape as HLO writes it, of a tuple those of all that it holds.

    A TPU's arrays are made of whole tiles, T(8,128) in their layout, and what fills them up counts. What it holds on
    the chip, S(1), is not in memory, and counts only if it is asked for.
    """
    arrays = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?", shape)
    return sum(
        SIZES.get(kind, 0) * prod(_in_tiles([int(n) for n in sides.split(",") if n], layout))
        for kind, sides, layout in arrays
        if on_chip or "S(1)" not in layout
    )


def _in_tiles(sides: list[int], layout: str) -> list[int]:
    """The sides of an array filled up to whole tiles, which lie along the last of its sides in memory."""
    if tile := re.search(r"T\(([\d,]+)\)", layout):
        order = [int(axis) for axis in layout.partition(":")[0].split(",") if axis]
        for axis, step in zip(order, reversed(tile[1].split(",")), strict=False):
            sides[axis] += -sides[axis] % int(step)
    return sides


def _count(computations: dict[str, Computation], name: str) -> Counts:
    body = computations[name]
    kernels, moved, collectives, collective_bytes = 0, 0, Counter[str](), 0
    for one in body.values():
        kind = one.operation.removesuffix("-start")
        if one.operation in ("while", "call", "conditional"):
            for inner, times in _called(computations, one):
                within = _count(computations, inner)
                kernels += times * within.kernels
                moved += times * within.bytes
                collectives += Counter({name: times * number for name, number in within.collectives.items()})
                collective_bytes += times * within.collective_bytes
        elif one.operation not in NOTHING and 'custom_call_target="AllocateBuffer"' not in one.rest:
            kernels += 1
            moved += _moved(computations, body, one)
            if kind in COLLECTIVES:
                collectives[kind] += 1
                collective_bytes += sum(size(body[operand].shape, on_chip=True) for operand in one.operands)
    return Counts(kernels, moved, collectives, collective_bytes)


def _called(computations: dict[str, Computation], one: Instruction) -> list[tuple[str, int]]:
    """The computations that an instruction runs, and how often: of branches the first."""
    if one.operation == "while":
        times = _times(computations, one)
        return [(name, times) for name in re.findall(r"body=%?([\w.-]+)", one.rest)]
    return [(name, 1) for name in re.findall(r"(?:to_apply=|branch_computations=\{)%?([\w.-]+)", one.rest)[:1]]


def _times(computations: dict[str, Computation], loop: Instruction) -> int:
    """How often a loop runs: as XLA says, or else (on TPUs it does not) below the one number of its condition."""
    if known := re.search(r"known_trip_count\D*(\d+)", loop.rest):
        return int(known[1])
    conditions = [computations[name].values() for name in re.findall(r"condition=%?([\w.-]+)", loop.rest)]
    limits = [int(it.operands[0]) for it in chain(*conditions) if it.operation == "constant" and "s32" in it.shape]
    return limits[0] if len(limits) == 1 else 1


def _moved(computations: dict[str, Computation], body: Computation, one: Instruction) -> int:
    """Bytes that a kernel reads and writes."""
    whole = [size(body[operand].shape) if operand in body else 0 for operand in one.operands]
    if one.operation in ("copy-start", "slice-start"):  # the result has the operand in it as well, and 4 bytes
        operands = " ".join(body[operand].shape for operand in one.operands)
        copied = size(one.shape, on_chip=True) - size(operands, on_chip=True) - 4
        return min(sum(whole), copied) + size(one.shape) - sum(whole) - 4
    inside = re.search(r"calls=%?([\w.-]+)", one.rest)
    if one.operation != "fusion" or inside is None:
        return size(one.shape) + sum(whole)
    fused = computations[inside[1]]
    names = {int(it.operands[0]): name for name, it in fused.items() if it.operation == "parameter"}
    needed = _needed(fused)
    read = sum(most * needed[names[i]] // max(_elements(fused[names[i]].shape), 1) for i, most in enumerate(whole))
    updated = [fused[name] for name in _in_place(fused)]
    in_place = sum(size(it.shape) - size(fused[it.operands[1]].shape) for it in updated)
    return max(size(one.shape) - in_place, 0) + read


def _needed(fused: Computation) -> Counter[str]:
    """How many elements at most a fusion computes, or reads, of each array in it, to make all of its results."""
    needed, in_place = Counter[str](), _in_place(fused)
    for name, it in reversed(fused.items()):
        most = _elements(it.shape)
        needed[name] = most if it.root else min(needed[name], most)
        if it.operation in ("parameter", "constant"):
            continue
        for number, operand in enumerate(it.operands):
            if it.operation in OF_MANY and needed[name]:
                needed[operand] += _elements(fused[operand].shape)
            elif it.operation in ("slice", "dynamic-slice") and not number:
                needed[operand] += _fetched(needed[name], it.shape, fused[operand].shape)
            elif number or name not in in_place:
                needed[operand] += needed[name]
    return needed


def _fetched(count: int, piece: str, whole: str) -> int:
    """How many elements a memory fetches for so many of a piece: of short lines more than there are in it."""
    wanted, there = (int(re.findall(r"\d+", shape.partition("]")[0])[-1]) for shape in (piece, whole))
    together = FETCHED * _elements(whole) // size(whole, on_chip=True)
    return count * max(wanted, min(there, -(-wanted // together) * together)) // wanted


def _elements(shape: str) -> int:
    """How many all arrays of a shape have."""
    return sum(prod(int(n) for n in sides.split(",") if n) for sides in re.findall(r"\b[a-z]+\d*\[([\d,]*)\]", shape))


def _in_place(fused: Computation) -> set[str]:
    """The updates that are results of a fusion: what they do not update stays where it is."""
    (root,) = (name for name, it in fused.items() if it.root)
    results = [root] if fused[root].operation != "tuple" else fused[root].operands
    whole = set[str]()
    for name in results:
        while fused[name].operation == "bitcast":
            name = fused[name].operands[0]
        if fused[name].operation == "dynamic-update-slice":
            whole.add(name)
    return whole
