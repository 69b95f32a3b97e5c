"""Downloads of archives from a server on loopback: whole, resumed, their checksums kept."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipelines.tools import download
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.host.locks import locked

CONTENTS = {f"/SynthHuman_{number:04d}.zip": bytes([number]) * 300_000 for number in range(2)}


class Server(http.server.ThreadingHTTPServer):
    """Serves `CONTENTS`; of an answer it sends at most `most` bytes."""

    most = 10**9
    asked: list[tuple[str, str | None]]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(b"", len(CONTENTS.get(self.path, b"")))

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Range"]))
        begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        content = CONTENTS[self.path][begin:]
        self._answer(content[: self.server.most], len(content), 206)

    def _answer(self, content: bytes, length: int, status: int = 200) -> None:
        if self.path not in CONTENTS:
            self.send_error(404)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """Two parts of synthhuman come from here."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(download, "SOURCES", {"synthhuman": replace(download.SOURCES["synthhuman"], url=url)})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(manual: Path, name: str) -> int:
    return main(["data", "download", name, "--manual", str(manual)])


def test_a_share_is_downloaded_with_its_sums(server, tmp_path, capsys):
    assert run(tmp_path, "synthhuman/0-1") == 0
    folder = tmp_path / "synthhuman"
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "SynthHuman_0000.zip",
        "SynthHuman_0001.zip",
    ]
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name[1:]}" for name, content in CONTENTS.items()]
    assert (folder / "SHA256SUMS").read_text().splitlines() == sums
    assert all((folder / name[1:]).read_bytes() == content for name, content in CONTENTS.items())
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("synthhuman/0-1 is licensed under CDLA-Permissive-2.0 by its owner: https://")
    assert output[1] == f"{folder}/SynthHuman_0000.zip: 0.00 GB"
    asked = len(server.asked)
    assert run(tmp_path, "synthhuman/0") == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{folder}/SynthHuman_0000.zip was there already"
    assert len(server.asked) == asked


def test_an_interrupted_download_goes_on(server, tmp_path, capsys):
    server.most = 100_000
    assert run(tmp_path, "synthhuman/1") == 2
    assert "after 0.1 of 0.3 MB: the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "synthhuman" / "SynthHuman_0001.zip").exists()
    server.most = 10**9
    assert run(tmp_path, "synthhuman/1") == 0
    assert server.asked[-1] == ("/SynthHuman_0001.zip", "bytes=100000-")
    assert (tmp_path / "synthhuman" / "SynthHuman_0001.zip").read_bytes() == CONTENTS["/SynthHuman_0001.zip"]


def test_what_is_left_of_a_longer_file_is_not_taken_for_it(server, tmp_path):
    folder = tmp_path / "synthhuman"
    folder.mkdir()
    (folder / "SynthHuman_0001.zip.part").write_bytes(bytes(300_001))
    assert run(tmp_path, "synthhuman/1") == 0
    assert (folder / "SynthHuman_0001.zip").read_bytes() == CONTENTS["/SynthHuman_0001.zip"]


def test_two_downloads_keep_the_sums_of_both(server, tmp_path):
    (file,) = download.files("synthhuman/1", tmp_path)
    sums = tmp_path / "synthhuman" / "SHA256SUMS"
    sums.parent.mkdir()
    other = f"{'0' * 64} *other.zip"  # as of another process, which reads and writes what there is
    thread = threading.Thread(target=download.fetch, args=(file,))
    with locked(sums.with_name("SHA256SUMS.lock"), remove=True):
        thread.start()
        thread.join(0.5)
        sums.write_text(f"{other}\n")
    thread.join()
    assert [line.split()[1].lstrip("*") for line in sums.read_text().splitlines()] == [
        "SynthHuman_0001.zip",
        "other.zip",
    ]


def test_another_file_than_before_is_refused(server, tmp_path, capsys):
    assert run(tmp_path, "synthhuman/1") == 0
    sums = tmp_path / "synthhuman" / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  SynthHuman_0001.zip\n")
    (tmp_path / "synthhuman" / "SynthHuman_0001.zip").unlink()
    assert run(tmp_path, "synthhuman/1") == 2
    error = capsys.readouterr().err
    assert f"expected {'0' * 64}; it was removed, so try again, or ask its owner; {sums} holds" in error
    assert sorted(path.name for path in sums.parent.iterdir()) == ["SHA256SUMS"]


def test_known_sums_are_compared(server, tmp_path):
    (file,) = download.files("synthhuman/0", tmp_path)
    with pytest.raises(InputError, match=r"is not the file that is known: its SHA-256 is .*, expected abc"):
        download.fetch(replace(file, sha256="abc"))


def test_what_the_server_lacks_and_what_must_be_asked_for(server, tmp_path, capsys):
    assert run(tmp_path, "synthhuman/2") == 2
    assert capsys.readouterr().err.endswith("SynthHuman_0002.zip: 404 Not Found\n")
    assert run(tmp_path, "p3m_10k") == 2
    assert "p3m_10k cannot be downloaded: `rvm data check p3m_10k` tells where to ask" in capsys.readouterr().err


def test_the_published_addresses():
    (file,) = download.files("pass_backgrounds/9", Path("archives"))
    assert (file.url, str(file.path)) == (
        "https://zenodo.org/record/6615455/files/PASS.9.tar",
        "archives/pass/PASS.9.tar",
    )
    assert file.sha256.startswith("9a7ab254")
    assert len(download.files("synthhuman", Path())) == 60
