"""Downloads of released networks, from a server on loopback: whole, resumed, or told why not."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvm_jax import load
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.host.locks import locked
from rvm_jax.weights import released
from rvm_jax.weights.released import RELEASES, Release

CONTENT = bytes(range(256)) * 4000


class Server(http.server.HTTPServer):
    """Serves `content`; of an answer it sends at most `most` bytes, and it may know of no ranges."""

    content = CONTENT
    most = len(CONTENT)
    knows_ranges = True
    status = 200
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.server.knows_ranges else 0
        content = self.server.content[begin:]
        self.send_response(206 if self.server.knows_ranges else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.most])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    """With a release `mine` of its content."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        url = f"http://127.0.0.1:{server.server_address[1]}/mine.onnx"
        digest = hashlib.sha256(CONTENT).hexdigest()
        mine = Release("for a test", url, len(CONTENT), digest, "MIT", "http://127.0.0.1/licence")
        monkeypatch.setattr(released, "RELEASES", {"mine": mine})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_a_download_is_whole_and_made_once(server, tmp_path, capsys):
    assert main(["weights", "mine"]) == 0
    path = tmp_path / "rvm-jax" / "weights" / "mine.onnx"
    out = capsys.readouterr().out
    assert (
        out == f"mine is licensed under MIT by its owner: http://127.0.0.1/licence\n{path}\n--weights mine takes it\n"
    )
    assert path.read_bytes() == CONTENT
    assert main(["weights", "mine"]) == 0
    assert server.asked == ["bytes=0-"]
    assert left(tmp_path) == ["mine.onnx"]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_what_breaks_off_is_gone_on_with(server, tmp_path, knows_ranges):
    server.knows_ranges, server.most = knows_ranges, 400_000
    with pytest.raises(InputError, match=r"the connection broke off after 0\.4 of 1\.0 MB: the same command goes on$"):
        released.download("mine")
    assert left(tmp_path) == ["mine.onnx.part"]
    server.most = len(CONTENT)
    told: list[int] = []
    assert released.download("mine", told.append).read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=400000-"]
    assert (told[0] > 400_000) == knows_ranges
    assert told[-1] == len(CONTENT)
    assert left(tmp_path) == ["mine.onnx"]


def test_another_file_than_the_known_one_is_removed(server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match=r"is not the file that is known: its SHA-256 is [0-9a-f]{64}, expected "):
        released.download("mine")
    assert left(tmp_path) == []


def test_what_nobody_has_seen_is_taken_as_it_is_and_its_sum_told(server, tmp_path, capsys):
    released.RELEASES["mine"] = released.RELEASES["mine"]._replace(size="1 MB", sha256=None)  # type: ignore[index]
    server.most = 400_000
    with pytest.raises(InputError, match=r"the connection broke off after 0\.4 of 1\.0 MB"):
        released.download("mine")
    server.most = len(CONTENT)
    assert main(["weights", "mine"]) == 0
    assert f"its SHA-256 is {hashlib.sha256(CONTENT).hexdigest()}\n" in capsys.readouterr().out
    assert released.RELEASES["mine"].path.read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=0-"]


def test_what_no_command_can_fetch_is_told_with_its_address(capsys):
    assert main(["weights", "u2netp.pth"]) == 2
    assert "download it at https://github.com/xuebinqin/U-2-Net" in capsys.readouterr().err


def test_no_network_and_no_file_are_told(server, tmp_path):
    server.status = 404
    with pytest.raises(InputError, match=r"^cannot download http://127\.0\.0\.1:\d+/mine\.onnx: 404 Not Found$"):
        released.download("mine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nowhere = released.RELEASES["mine"]._replace(url=f"http://127.0.0.1:{port}/mine.onnx")
    released.RELEASES["mine"] = nowhere  # type: ignore[index]
    with pytest.raises(InputError, match=r"mine\.onnx: \[Errno 111\] Connection refused$"):
        released.download("mine")
    assert left(tmp_path) == []


def test_a_full_disk_is_told(server, tmp_path):
    folder = tmp_path / "rvm-jax" / "weights"
    folder.mkdir(parents=True)
    (folder / "mine.onnx.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"^cannot write .*mine\.onnx\.part: No space left on device$"):
        released.download("mine")
    assert not (folder / "mine.onnx").exists()


def test_two_downloads_at_once_are_told(server, tmp_path):
    folder = tmp_path / "rvm-jax" / "weights"
    folder.mkdir(parents=True)
    with locked(folder / "mine.onnx.lock"), pytest.raises(InputError, match="is downloading mine already: wait for it"):
        released.download("mine")


def test_a_name_stands_for_its_file(server, capsys):
    with pytest.raises(InputError, match=r"^mine is not here yet: `rvm weights mine` downloads it, 1 MB under MIT$"):
        load("mine")
    released.download("mine")
    with pytest.raises(InputError, match=r"mine\.onnx is not an ONNX file"):  # it was found, and is none
        load("mine")
    assert main(["weights"]) == 0
    assert "mine.onnx\n" in capsys.readouterr().out


def test_what_is_called_so_here_comes_first(server, tmp_path, monkeypatch):
    released.download("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("mine").write_bytes(b"weights of one's own")
    with pytest.raises(InputError, match=r"^mine (?!\.onnx|is not here)"):  # that one was read
        load("mine")


def test_other_names_are_told(capsys):
    assert main(["weights", "yours"]) == 2
    names = ", ".join(RELEASES)
    assert capsys.readouterr().err == f"rvm: there is no released network yours: expected one of {names}\n"
