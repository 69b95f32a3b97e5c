"""What the tests of tracking tell a tracker."""

import json

import numpy as np
import pytest

from train.device.evaluation import ValidationClip
from train.tracking import metrics_file


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": {"variant": "tiny", "seed": 7}}))
    return folder


def numbers(iteration):
    loss = np.float32(1) / np.float32(3 + iteration)
    return {"stage": 1, "matting_low/total": loss, "frames_per_second": 40.0}


def tell(tracker, begin, end):
    """Iterations, and a validation every four of them."""
    for i in range(begin, end):
        if i == 0:
            tracker.log_validation(0, {"validation/mad": 0.5}, [])
        tracker.log_iteration(i, numbers(i))
        if (i + 1) % 4 == 0:
            tracker.log_validation(i + 1, {"validation/mad": 0.1}, [])


def recorded(folder):
    """The record without the time."""
    return [{n: v for n, v in line.items() if n != "time"} for line in metrics_file.read(folder / "metrics.jsonl")]


def clip(value, frames=3):
    return ValidationClip(*(np.full((frames, 8, 12, c), value, np.uint8) for c in (3, 1, 3, 1)))
