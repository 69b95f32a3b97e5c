"""The check of data: what spoils matting, and shows on a sample of each dataset."""

from collections.abc import Iterable, Iterator, Mapping

import cv2
import numpy as np

from data_pipelines.pipelines import datasets
from data_pipelines.records import images
from data_pipelines.records.clips import Clips, open_clips
from rvm_jax.host.paths import Location
from rvm_jax.weights.files import Weights
from train.check import mattes, people
from train.check.findings import Finding

LOOKED_AT = 64
"""Frames of each dataset."""
FEWEST_PIXELS = 200
"""On edges, that tell anything."""
MOST_LEFT = 0.6
"""Of the background in a foreground. Clean ones come to 0.4 where hair crosses a face; pictures to 0.85 and more."""
MOST_MISSING = 0.25
"""By how much a tone curve makes the missing levels at one end more than at the other."""
FEW_BACKGROUNDS = 1000
MOST_PEOPLE = 0.05
"""Of the backgrounds may seem to show people, or two of them: a network is not always right."""


def look(names: Iterable[str], data_dir: Location, network: Weights | None) -> Iterator[Finding]:
    """A finding or more for each dataset. `network` tells people in backgrounds, where it is given."""
    backgrounds = 0
    for name in names:
        clips = open_clips([name], "train", data_dir)
        match datasets.kind(name, data_dir):
            case "matting":
                yield from _matting(name, clips)
            case "segmentation":
                yield _segmentation(name, clips)
            case "background":
                backgrounds += len(clips)
                yield from _background(name, clips, network)
    if backgrounds < FEW_BACKGROUNDS:
        yield Finding(
            "note", f"there are {backgrounds} backgrounds in all: with a few hundred, mattes err about twice as much"
        )


def _matting(name: str, clips: Clips) -> Iterator[Finding]:
    levels = np.zeros(256, np.int64)
    parts, empty = [], 0
    looked = list(_sample(clips))
    for record in looked:
        foreground, alpha = images.decode_color(record["foreground"]), images.decode_gray(record["alpha"])
        levels += np.bincount(alpha.ravel(), minlength=256)
        parts.append(mattes.edges(foreground, alpha))
        empty += int(alpha.max()) < 128
    edges, told = mattes.join(parts), list(_of_alpha(levels))
    if edges.hard > 9 * edges.soft:
        told.append("has no soft edges: these are masks, and mattes are needed")
    if len(edges.alpha) >= FEWEST_PIXELS and edges.left > MOST_LEFT:
        yield Finding(
            "fault",
            f"{name}: at the edges, {edges.left:.0%} of what is behind people (or black) is left in the foregrounds: "
            "have them estimated at preparation, or give clean ones",
        )
    yield from (Finding("fault", f"{name}: alpha {what}") for what in told)
    if empty > len(looked) / 5:
        yield Finding("note", f"{name}: {empty} of {len(looked)} frames show nobody")
    if len(edges.alpha) < FEWEST_PIXELS and not told:
        yield Finding("note", f"{name}: its frames have too few narrow edges to judge alpha and foregrounds by")
    elif not told and edges.left <= MOST_LEFT:
        yield Finding(
            "fine",
            f"{name}: soft alpha in all levels, {max(0, edges.left):.0%} of backgrounds left ({len(looked)} frames)",
        )


def _of_alpha(levels: np.ndarray) -> Iterator[str]:
    """What is wrong with alphas, of which `levels` counts each."""
    dark, bright = mattes.missing_levels(levels)
    if mattes.in_video_range(levels):
        yield "goes from 16 to 235, as in videos: 0 to 255 is needed, so stretch it"
    elif abs(dark - bright) > MOST_MISSING:
        way, mend = ("below 1", "above 1") if dark > bright else ("above 1", "below 1")
        yield (
            f"has a gamma {way}: {max(dark, bright):.0%} of levels at one end are missing; undo it by one {mend}, "
            "or ask for the alpha that it was made from"
        )


def _segmentation(name: str, clips: Clips) -> Finding:
    masks = [images.decode_gray(record["mask"]) >= 128 for record in _sample(clips)]
    share = float(np.mean([mask.mean() for mask in masks]))
    if not share:
        return Finding("fault", f"{name}: none of {len(masks)} masks marks anybody")
    return Finding("fine", f"{name}: people on {share:.0%} of the pictures' area ({len(masks)} frames)")


def _background(name: str, clips: Clips, network: Weights | None) -> Iterator[Finding]:
    if network is None:
        yield Finding("note", f"{name}: not searched for people, which --people WEIGHTS does")
        return
    numbers = _numbers(clips)
    height, width = people.SIZE
    pictures = [
        cv2.resize(images.decode_color(clips.read(int(number))["image"]), (width, height), interpolation=cv2.INTER_AREA)
        for number in numbers
    ]
    seen = people.seen(network, np.stack(pictures)) > people.SMALLEST_SHARE
    clip = np.searchsorted(clips.firsts, numbers[seen], side="right") - 1
    shown = ", ".join(clips.names[int(one)].rsplit("/", 1)[-1] for one in clip[:3])
    what = f"{name}: people in {seen.sum()} of {len(numbers)} backgrounds"
    if seen.sum() > max(2, MOST_PEOPLE * len(numbers)):
        yield Finding("fault", f"{what}, such as {shown}: take them out, since people there are taught to be nobody")
    else:
        yield Finding("note" if seen.any() else "fine", what + (f": {shown}" if seen.any() else ""))


def _sample(clips: Clips) -> Iterator[Mapping[str, bytes]]:
    return (clips.read(int(number)) for number in _numbers(clips))


def _numbers(clips: Clips) -> np.ndarray:
    """Of frames that are spread over all clips."""
    return np.unique(np.linspace(0, clips.frames - 1, LOOKED_AT).astype(np.int64))
