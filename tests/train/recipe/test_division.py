"""Division of a batch: as it is asked for, and as a run that goes on has to take it."""

from dataclasses import replace
from pathlib import Path

import pytest

from rvm_jax.errors import InputError
from tests.train.runs import RECIPE
from train.recipe.division import Division, Kept, describe_batch, describe_parts, divide, settle
from train.recipe.options import Options

OUT = Path("runs/first")


def asked(parts: int = 1, each: int | None = None) -> Options:
    return Options(OUT, accumulation=parts, clips_per_device=each)


@pytest.mark.parametrize(
    ("batch", "parts", "each", "devices", "expected"),
    [(4, 1, None, 4, 4), (8, 2, None, 4, 8), (4, 1, 2, 8, 16), (4, 2, 3, 8, 48), (4, 1, 1, 1, 1)],
)
def test_clips_per_device_make_the_batch(batch, parts, each, devices, expected):
    assert divide(batch, asked(parts, each), devices) == Division(expected, parts)


@pytest.mark.parametrize(
    ("batch", "parts", "message"),
    [
        (4, 1, "--batch 4 cannot be divided among 8 devices: give a multiple of 8, or --clips-per-device"),
        (8, 2, "--batch 8 cannot be divided among 8 devices, each of which takes 2 parts: give a multiple of 16, or "),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(batch, parts, message):
    with pytest.raises(InputError) as caught:
        divide(batch, asked(parts), 8)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("parts", "each", "devices", "expected"),
    [
        (1, 2, 8, 1),  # as it began
        (1, 2, 4, 2),
        (1, 2, 1, 8),
        (1, 1, 16, 1),
        (1, 1, 8, 2),  # fewer clips at a time than when it began
        (1, None, 16, 1),
        (2, None, 8, 2),
        (2, None, 1, 2),
        (3, None, 4, 4),  # 3 does not divide the 4 clips that each has
        (3, None, 16, 1),  # as many parts as that cannot be
    ],
)
def test_a_run_that_goes_on_keeps_its_batch(parts, each, devices, expected):
    assert divide(4 if each else 16, asked(parts, each), devices, kept=16) == Division(16, expected)


@pytest.mark.parametrize(
    ("batch", "scaling", "each", "devices", "kept", "expected"),
    [
        (None, "auto", None, 1, None, (4, "none")),
        (None, "auto", None, 4, None, (4, "none")),
        (None, "auto", None, 3, None, (3, "sqrt")),
        (None, "auto", None, 8, None, (8, "sqrt")),
        (None, "linear", None, 8, None, (8, "linear")),
        (None, "none", None, 8, None, (8, "none")),
        (None, "auto", 1, 8, None, (8, "none")),
        (8, "auto", None, 8, None, (8, "none")),
        (None, "auto", None, 4, Kept(8, "sqrt"), (8, "sqrt")),  # begun on eight
        (None, "auto", 2, 4, Kept(8, "sqrt"), (8, "sqrt")),
        (8, "auto", None, 4, Kept(8, "sqrt"), (8, "sqrt")),
        (None, "auto", None, 4, Kept(16, "none"), (16, "none")),  # begun with two clips for each of eight
        (None, "linear", None, 4, Kept(8, "sqrt"), (8, "linear")),  # which the run will refuse
        (None, "auto", None, 2, Kept(4, "none"), (4, "none")),
    ],
)
def test_a_batch_that_is_not_said_is_one_that_devices_can_share(batch, scaling, each, devices, kept, expected):
    settled, division = settle(replace(RECIPE, batch=batch, scaling=scaling), asked(each=each), devices, kept)
    assert (settled.batch, settled.scaling) == expected
    assert division.batch == settled.batch
    assert division.by_devices == (batch is None and each is None and kept is None and devices in (3, 8))


def test_a_batch_by_devices_is_told():
    settled, division = settle(replace(RECIPE, batch=None), asked(), 8)
    assert describe_batch(settled, division) == [
        "8 devices cannot share the recipe's batch of 4: a step has 8 clips, and learning rates are 1.41 times the "
        "recipe's (as with --batch 8 --scaling sqrt)"
    ]
    assert describe_batch(*settle(RECIPE, asked(), 8)) == []
    assert describe_batch(*settle(replace(RECIPE, batch=None), asked(), 4, Kept(8, "sqrt"))) == []


KEPT = "the run in runs/first keeps its batch of 16 clips"


@pytest.mark.parametrize(
    ("batch", "each", "devices", "message"),
    [
        (8, None, 8, f"--batch 8: {KEPT}; give --batch 16, or another --out DIR"),
        (16, None, 3, f"{KEPT}, which 3 devices cannot divide: use 1, 2, 4, 8 or 16 of them"),
        (4, 3, 4, f"--clips-per-device 3: {KEPT}, 4 for each of 4 devices; give 1, 2 or 4"),
        (4, 2, 16, f"--clips-per-device 2: {KEPT}, 1 for each of 16 devices; give 1"),
    ],
)
def test_what_a_run_that_goes_on_cannot_do_is_told_with_what_it_can(batch, each, devices, message):
    with pytest.raises(InputError) as caught:
        divide(batch, asked(each=each), devices, kept=16)
    assert str(caught.value) == message


PARTS = "a batch of 16 clips is computed in {} parts of {}, each with batch statistics of its own"


@pytest.mark.parametrize(
    ("division", "options", "expected"),
    [
        (Division(16, 1), asked(), []),
        (Division(16, 2), asked(2), [PARTS.format(2, 8)]),
        (Division(16, 4), asked(each=1), [PARTS.format(4, 4)]),
        (Division(16, 4), asked(3), [f"{PARTS.format(4, 4)}; 4 devices cannot take 3 parts"]),
        (Division(16, 1), asked(2), ["a batch of 16 clips is computed at once; 4 devices cannot take 2 parts"]),
    ],
)
def test_parts_are_told(division, options, expected):
    assert describe_parts(division, options, 4) == expected
