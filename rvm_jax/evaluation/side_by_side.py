"""One picture of all methods: the same frames, what they look like, their true mattes, and what each method says."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rvm_jax.evaluation.evaluate import PANELS, Scored
from rvm_jax.host.files import replacing

SHOWN = 6
"""At most so many clips, of all datasets in turn."""
LABEL, GAP = 18, 4
FONT = ImageFont.load_default()


def write(path: Path, results: Mapping[str, Sequence[Scored]]) -> None:
    """Write a PNG: a row for the middle frame of some clips, a column for each method."""
    with replacing(path, overwrite=True) as partial:
        sheet(results).save(partial, "PNG")


def sheet(results: Mapping[str, Sequence[Scored]]) -> Image.Image:
    """The picture. Below each matte stands its MAD in that frame."""
    columns = ["input", "true matte", *results]
    rows = [_panels(number, results) for number in _chosen(next(iter(results.values())))]
    texts = [*columns, *(label for row in rows for _, label in row)]
    widest = max(*(panel.width for row in rows for panel, _ in row), *map(FONT.getlength, texts))
    width = math.ceil(widest) + GAP
    whole = Image.new("RGB", (width * len(columns), LABEL + sum(row[0][0].height + LABEL for row in rows)), "white")
    draw, top = ImageDraw.Draw(whole), LABEL
    for number, name in enumerate(columns):
        draw.text((number * width + 2, 3), name, "black", FONT)
    for row in rows:
        for number, (panel, label) in enumerate(row):
            whole.paste(panel, (number * width, top))
            draw.text((number * width + 2, top + panel.height + 2), label, "black", FONT)
        top += row[0][0].height + LABEL
    return whole


def _chosen(clips: Sequence[Scored]) -> list[int]:
    """The numbers of the clips that are shown: the first of each dataset, then the second, …"""
    seen: dict[str, int] = {}
    turns = []
    for number, scored in enumerate(clips):
        turn = seen[scored.dataset] = seen.get(scored.dataset, -1) + 1
        turns.append((turn, number))
    return sorted(number for _, number in sorted(turns)[:SHOWN])


def _panels(number: int, results: Mapping[str, Sequence[Scored]]) -> list[tuple[Image.Image, str]]:
    """The input and the true matte of a clip, and each method's matte, with their labels."""
    panels: list[tuple[Image.Image, str]] = []
    for clips in results.values():
        scored = clips[number]
        mads = scored.scores["mad"]
        with Image.open(scored.middle) as stored:
            com, truth, alpha, _ = np.split(np.asarray(stored.convert("RGB")), PANELS, axis=1)
        middle = len(mads) // 2
        if not panels:
            labels = f"{scored.dataset}/{scored.clip}", f"frame {scored.numbers[middle]}"
            panels = list(zip(map(Image.fromarray, (com, truth)), labels, strict=True))
        panels.append((Image.fromarray(alpha), f"MAD {mads[middle]:.2f}"))
    return panels
