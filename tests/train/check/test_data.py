"""The findings about data: synthetic people, spoiled in every way that is looked for."""

import re

import numpy as np
import pytest
from PIL import Image

from data_pipelines.archives.decode import encode_jpeg, encode_png
from data_pipelines.records.clips import Clips
from tests.train.check.test_mattes import people, picture
from train.check import data


def stills(records):
    return Clips(
        [f"set/{number}" for number in range(len(records))], np.ones(len(records), np.int64), records.__getitem__
    )


def matting(foreground=lambda f, a, b: f, alpha=lambda a: a):
    return stills(
        [
            {
                "foreground": encode_jpeg(Image.fromarray(foreground(f, a, b))),
                "alpha": encode_png(Image.fromarray(np.rint(255 * alpha(a / 255)).astype(np.uint8))),
            }
            for f, a, b in people()
        ]
    )


def segmentation(mask):
    return stills([{"image": b"", "mask": encode_png(Image.fromarray(np.full((8, 8), mask, np.uint8)))}])


@pytest.fixture
def look(monkeypatch):
    """The findings about one dataset of a kind, what, text."""

    def look(kind, clips, network=None):
        monkeypatch.setattr(data, "open_clips", lambda names, split, data_dir: clips)
        monkeypatch.setattr(data.datasets, "kind", lambda name, data_dir: kind)
        return list(data.look(["set"], "nowhere", network))

    return look


SPOILED = {
    "a picture": ({"foreground": picture}, r"at the edges, (8|9)\d% of what is behind people \(or black\) is left"),
    "gamma above": ({"alpha": lambda a: a**2.2}, r"alpha has a gamma above 1: \d\d% of levels at one end are missing"),
    "gamma below": ({"alpha": lambda a: a ** (1 / 2.2)}, "alpha has a gamma below 1"),
    "of videos": ({"alpha": lambda a: (16 + 219 * a) / 255}, "alpha goes from 16 to 235, as in videos"),
    "masks": ({"alpha": lambda a: a > 0.5}, "alpha has no soft edges: these are masks"),
}


@pytest.mark.parametrize(("how", "told"), SPOILED.values(), ids=SPOILED)
def test_what_spoils_mattes_is_a_fault(how, told, look):
    faults = [found.text for found in look("matting", matting(**how)) if found.what == "fault"]
    assert len(faults) == 1
    (text,) = faults
    assert text.startswith("set: ")
    assert re.search(told, text), text


def test_good_mattes_are_fine(look):
    first, few = look("matting", matting())
    assert (first.what, first.text.startswith("set: soft alpha in all levels, ")) == ("fine", True)
    assert (few.what, few.text.startswith("there are 0 backgrounds in all")) == ("note", True)


def test_some_hard_edges_make_no_masks(look):
    half = matting(alpha=lambda a: np.where(np.arange(a.shape[1]) < a.shape[1] // 2, a > 0.5, a))
    assert [found.what for found in look("matting", half)] == ["fine", "note"]


@pytest.mark.parametrize(("count", "notes"), [(999, 1), (1000, 0)])
def test_few_backgrounds_are_told(count, notes, look):
    told = [found.text for found in look("background", stills([{}] * count))]
    assert len([text for text in told if text.startswith(f"there are {count} backgrounds in all")]) == notes


def test_frames_without_people_are_told(look):
    told = [found.text for found in look("matting", matting(alpha=lambda a: 0 * a))]
    assert told[0] == "set: 6 of 6 frames show nobody"


@pytest.mark.parametrize(("mask", "what"), [(0, "fault"), (255, "fine")])
def test_masks_have_to_mark_somebody(mask, what, look):
    assert look("segmentation", segmentation(mask))[0].what == what


@pytest.mark.parametrize(
    ("count", "with_people", "what"),
    [(40, 0, "fine"), (40, 2, "note"), (40, 3, "fault"), (10, 2, "note"), (64, 3, "note"), (64, 4, "fault")],
)
def test_people_in_backgrounds(count, with_people, what, look, monkeypatch):
    shares = np.where(np.arange(count) < with_people, 0.2, 0.001)
    monkeypatch.setattr(data.people, "seen", lambda network, pictures: shares[: len(pictures)])
    clips = stills([{"image": encode_jpeg(Image.new("RGB", (32, 24)))}] * count)
    found = look("background", clips, network="a network")[0]
    assert found.what == what
    assert found.text.startswith(f"set: people in {with_people} of {count} backgrounds")
    assert ("0, 1, 2" in found.text) == (with_people >= 3)
    assert look("background", clips)[0].text == "set: not searched for people, which --people WEIGHTS does"
