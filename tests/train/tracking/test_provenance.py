"""What a session tells of the code, the packages and the machine that it ran on, and what of it is told as changed."""

import subprocess

import pytest

from train.tracking import metrics_file, provenance


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit, which has a tag."""
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "-a", "v1", "-m", "first")
    return tmp_path


def git(folder, *words):
    settings = "user.name=me", "user.email=me@example.org", "commit.gpgsign=false", "tag.gpgsign=false"
    options = [word for setting in settings for word in ("-c", setting)]
    command = ["git", *options, *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_revision_is_the_whole_commit_and_whether_its_files_were_changed(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert provenance.revision(checkout) == commit  # not the tag, which may be moved
    (checkout / "notes.txt").write_text("not part of it\n")
    assert provenance.revision(checkout) == commit
    (checkout / "code.py").write_text("2\n")
    assert provenance.revision(checkout) == f"{commit}-dirty"


def test_what_is_no_checkout_has_no_revision(checkout, monkeypatch):
    inside = checkout / "site-packages"
    inside.mkdir()
    assert provenance.revision(inside) is None  # a checkout around an installed package is another project's
    monkeypatch.setenv("PATH", "")
    assert provenance.revision(checkout) is None


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({}, None),
        ({"revision": "b" * 40}, f"revision: {'b' * 40} before, {'a' * 40} now"),
        ({"revision": None}, f"revision: none before, {'a' * 40} now"),
        ({"matmul_precision": "highest"}, "matmul precision: highest before, default now"),
        ({"versions": {"jax": "0.1"}}, "jax: 0.1 before, 0.2 now"),
        ({"versions": {"jax": "0.2", "tensorflow": "2.0"}}, "tensorflow: 2.0 before, none now"),
        ({"versions": {"jax": "0.2", "python": "3.9"}, "system": "another", "started": "then", "hosts": 9}, None),
    ],
)
def test_what_rounds_otherwise_is_told(tmp_path, monkeypatch, before, told):
    now = {
        "started": "now",
        "devices": "8 × TPU",
        "hosts": 1,
        "xla_flags": "",
        "matmul_precision": "default",
        "system": "this",
        "revision": "a" * 40,
        "versions": {"jax": "0.2", "python": "3.11", "flax": "1"},
    }
    monkeypatch.setattr(provenance, "provenance", lambda: now)
    metrics_file.add_session(tmp_path / metrics_file.SESSIONS, {**now, "revision": "c" * 40})  # not the last one
    metrics_file.add_session(tmp_path / metrics_file.SESSIONS, {**now, **before})
    expected = [] if told is None else [f"it goes on with other rounding, not bit for bit ({told})"]
    assert provenance.changes(tmp_path) == expected
