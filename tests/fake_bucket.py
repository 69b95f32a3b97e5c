"""A server of Google Cloud Storage on loopback, in memory: buckets for tests, without credentials."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

BUCKET = "bucket"
SERVER = """
import socketserver, sys
from gcp_storage_emulator.__main__ import main
socketserver.TCPServer.request_queue_size = 128  # of 5, some of many connections at a time are refused
sys.exit(main())
"""


def environment(address: str) -> dict[str, str]:
    """What makes the libraries of this process and of others go there."""
    return {
        "STORAGE_EMULATOR_HOST": address,  # gcsfs
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": address,  # array_record
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "GOOGLE_CLOUD_PROJECT": "none",
        "NO_GCE_CHECK": "true",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "EPATH_USE_TF": "0",
    }


@contextlib.contextmanager
def serving(log: Path) -> Iterator[str]:
    """Serve a bucket while the block runs; gives its URL. The environment of this process goes there meanwhile."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", BUCKET]
    before = dict(os.environ)
    with log.open("wb") as out:
        server = subprocess.Popen([sys.executable, "-c", SERVER, *command], stdout=out, stderr=out)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, server)
        os.environ.update(environment(address))
        _forget_other_servers()
        yield f"gs://{BUCKET}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The URL of a bucket for the tests of a module, which take it in by `bucket = fake_bucket.bucket`."""
    with serving(tmp_path_factory.mktemp("bucket") / "log") as url:
        yield url


def _forget_other_servers() -> None:
    import gcsfs  # it looks at the environment when it is imported

    gcsfs.GCSFileSystem.clear_instance_cache()


def _wait_for(address: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{address}/storage/v1/b/{BUCKET}", timeout=1):
                return
        except OSError:
            assert server.poll() is None, "the server of buckets has ended"
            assert time.monotonic() < end, "the server of buckets did not start"
            time.sleep(0.05)
