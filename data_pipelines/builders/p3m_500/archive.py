"""The two sets for tests of P3M-10k: P3M-500-P with blurred faces, P3M-500-NP without."""

from pathlib import Path

from data_pipelines.archives.clip import Found
from data_pipelines.archives.composites_with_truth import clip
from data_pipelines.builders.p3m_10k import archive as p3m_10k


def find(manual: Path, *_: object) -> Found:
    """The portraits, on the backgrounds on which they were taken: each is a clip of one frame."""
    found = Found()
    parts = {split: p3m_10k.pairs(manual, where, found) for split, where in p3m_10k.TESTS.items()}
    found.splits = {
        split.removeprefix("test_"): [clip(name, [pair]) for name, pair in pairs.items()]
        for split, pairs in parts.items()
    }
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of both."""
    return [manual / p3m_10k.FOLDER / "validation"]
