"""One batch that is learned by heart, and one that is not."""

import numpy as np
import pytest

from train.check import overfit
from train.device import parallel
from train.device.programs import Key

KEY = Key(False, 8, 2, 48, 48, 1.0, ("encoder",))


class FakePrograms:
    """Whose loss is what is listed, and stays at the last of it."""

    parts = 1

    def __init__(self, losses):
        self.losses = list(losses)

    def run(self, key, state, shards, rates):
        assert rates == {"encoder": overfit.RATE}
        return state, {"total": np.float32(self.losses.pop(0) if len(self.losses) > 1 else self.losses[0])}


@pytest.mark.parametrize(
    ("losses", "what"),
    [((2.0, 1.5, 0.9), "fine"), ((2.0, 0.5, 1.1), "fault"), ((2.0, float("nan")), "fault"), ((1.0, 9.0), "fault")],
)
def test_the_loss_has_to_fall_to_half(losses, what, monkeypatch):
    monkeypatch.setattr(parallel, "shard", lambda batch, parts: batch)
    monkeypatch.setattr(parallel, "read_back", lambda metrics: metrics)
    found = overfit.check(FakePrograms(losses), KEY, None, {})
    assert found.what == what
    assert f"loss {losses[0]:.3f}, and {losses[-1]:.3f} after {overfit.STEPS} steps" in found.text
