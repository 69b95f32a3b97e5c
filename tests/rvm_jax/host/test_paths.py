import os
from pathlib import Path

import pytest

from rvm_jax.host import paths


@pytest.fixture
def no_home(monkeypatch, tmp_path):
    """As for a random user of a container: no $HOME, and no entry in the list of users."""
    monkeypatch.setattr("os.path.expanduser", lambda path: str(path))
    for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_the_environment_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("TFDS_DATA_DIR", "~/data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_folder() == tmp_path / "caches" / "rvm-jax"
    assert paths.data_folder() == tmp_path / "data"


def test_the_home_is_next(monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_folder() == tmp_path / ".cache" / "rvm-jax"
    assert paths.data_folder() == tmp_path / "tensorflow_datasets"


def test_without_a_home_nothing_is_raised_and_caches_are_temporary(no_home):
    own = no_home / f"rvm-jax-{os.getuid()}"  # others may write there too
    assert paths.cache_folder() == own / ".cache" / "rvm-jax"
    assert paths.data_folder() == own / "tensorflow_datasets"
    assert paths.expanded("~/x") == Path("~/x")


@pytest.mark.parametrize("made", ["home", "home/.cache", "home/.cache/rvm-jax"])
def test_caches_are_temporary_where_nothing_can_be_written(monkeypatch, tmp_path, made):
    """Whoever runs the tests may write everywhere."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / made).mkdir(parents=True)
    assert paths.cache_folder() == tmp_path / "home" / ".cache" / "rvm-jax"
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: access(path, mode) and not (path == tmp_path / made and mode & os.W_OK)
    )
    assert paths.cache_folder() == tmp_path / "temporary" / f"rvm-jax-{os.getuid()}"
