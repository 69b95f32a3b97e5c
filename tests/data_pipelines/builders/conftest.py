from pathlib import Path

import pytest

from tests.data_pipelines import fake_archives


@pytest.fixture
def folder(tmp_path) -> Path:
    """Footage of three clips, of which the first is for validation."""
    for first in (0, 10, 20):
        fake_archives.write_pair(tmp_path / "footage", f"clip{first}", range(first, first + 4))
    return tmp_path / "footage"
