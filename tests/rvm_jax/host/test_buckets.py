"""Buckets: what is read is what was written, and one that cannot be reached is an error, never an empty one."""

import socket
import time

import pytest

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.paths import is_url, located
from tests import fake_bucket

bucket = fake_bucket.bucket


@pytest.fixture
def url(bucket, tmp_path):
    return f"{bucket}/{tmp_path.name}/run"


@pytest.fixture
def unreachable(monkeypatch):
    """A bucket where nothing answers; gcsfs, which would try for half a minute, tries once."""
    import gcsfs.retry

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        for name, value in fake_bucket.environment(f"http://127.0.0.1:{found.getsockname()[1]}").items():
            monkeypatch.setenv(name, value)

        async def at_once(_):
            """In place of waiting."""

        monkeypatch.setattr(gcsfs.retry.asyncio, "sleep", at_once)
        yield "gs://bucket/run"


URLS = {"gs://b/run": True, "s3://b": True, "http://x": True, "runs/first": False, "C:\\runs": False, "gs:/b": False}


@pytest.mark.parametrize("given", URLS)
def test_what_a_url_is(given):
    assert is_url(given) == URLS[given]


@pytest.mark.parametrize("given", ["http://host/run", "gs://", "gs:///"])
def test_other_urls_are_refused(given):
    with pytest.raises(InputError, match=r"expected gs://BUCKET/… or s3://BUCKET/…, or a path"):
        buckets.file_system(given)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(buckets.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"s3://b/run needs s3fs: run `pip install 'rvm-jax\[s3\]'`"):
        buckets.file_system("s3://b/run")


def test_what_is_read_is_what_was_written(url, tmp_path):
    assert buckets.read(f"{url}/a") is None
    assert buckets.list_files(url) == []
    (tmp_path / "from" / "b").mkdir(parents=True)
    files = {"a": b"", "b/c": bytes(range(256)), "b/large": bytes(6 * 2**20), "b/return": b"\n\r"}
    for name, content in files.items():
        (tmp_path / "from" / name).write_bytes(content)
    buckets.upload(tmp_path / "from", url, files)
    buckets.write(f"{url}2/other", b"x")  # its name begins alike
    assert buckets.list_files(f"{url}/") == sorted(files)
    buckets.download(url, tmp_path / "to", files)
    assert {name: (tmp_path / "to" / name).read_bytes() for name in files} == files
    for content in (b"new", b"new\r"):
        buckets.write(f"{url}/a", content)
        assert buckets.read(f"{url}/a") == content
    buckets.remove(url, ["a", "gone"])
    assert buckets.list_files(url) == ["b/c", "b/large", "b/return"]


def test_what_is_not_there_is_named(url, tmp_path):
    with pytest.raises(InputError, match=rf"cannot read {url}: there is no.* of that name"):
        buckets.download(url, tmp_path, ["a"])


def test_a_bucket_that_cannot_be_reached_is_not_an_empty_one(unreachable, tmp_path):
    (tmp_path / "a").touch()
    uses = {
        "read": [
            lambda: buckets.list_files(unreachable),
            lambda: buckets.read(f"{unreachable}/a"),
            lambda: buckets.download(unreachable, tmp_path, ["b"]),
        ],
        "write": [
            lambda: buckets.write(f"{unreachable}/a", b""),
            lambda: buckets.upload(tmp_path, unreachable, ["a"]),
            lambda: buckets.remove(unreachable, ["a"]),
        ],
    }
    for doing, each in uses.items():
        for use in each:
            with pytest.raises(InputError, match=rf"^cannot {doing} gs://bucket/run.*: .*[Cc]annot connect to host"):
                use()


def test_a_bucket_that_is_silent_is_told_of(monkeypatch, capfd):
    class Silent:
        told = ""

        def info(self, name):
            while not self.told.endswith("\n"):
                time.sleep(0.01)
                self.told += capfd.readouterr().err
            raise FileNotFoundError

    system = Silent()
    monkeypatch.setattr(buckets, "SECONDS_OF_SILENCE", 0.0)
    monkeypatch.setattr(buckets, "file_system", lambda url: (system, "b/a"))
    assert not buckets.exists("gs://b/a")
    assert system.told == "rvm: gs://b/a has not answered for 0 s; still trying\n"


def test_locations(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert located("gs://b/run") == "gs://b/run"
    assert located("~/run") == tmp_path / "run"
    assert buckets.join("gs://b/run/", "a", "b") == "gs://b/run/a/b"
    assert buckets.join("run", "a") == buckets.Path("run/a")
