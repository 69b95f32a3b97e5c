"""`rvm serve` as a process, and plain requests to it."""

import http.client
import http.server
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rvm_jax.serve.uploads import Limits
from tests.compiling import QUICKLY

COUNT = 12
"""How many frames the clip has."""

LIMITS = Limits(megabytes=1, seconds=10, side=100, waiting=20)

# With x264's macroblock tree, one in a hundred videos of the same pictures has other bits on a busy machine.
SAME_BITS = ("x264-params", "mbtree=0")
PROGRAM = f"""
import sys
from rvm_jax.cli.main import main
from rvm_jax.video import sink

sink.FORMATS[".mp4"].options.update([{SAME_BITS}])
sys.exit(main(sys.argv[1:]))
"""


class Server(NamedTuple):
    address: str
    host: str
    temporary: Path
    process: "subprocess.Popen[str]"

    def files(self) -> list[Path]:
        """All that lies in its folder."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]


def started(network: Path, temporary: Path, *options: str) -> Server:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--weights", str(network), "--port", str(port), *options],
        text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary), "XLA_FLAGS": QUICKLY},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"serving on http://127.0.0.1:{port}/ (Ctrl-C ends it)\n"
    return Server(line.split()[2], f"127.0.0.1:{port}", temporary, process)


def ended(server: Server) -> None:
    """It leaves when asked to, and leaves nothing."""
    server.process.send_signal(signal.SIGINT)
    server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert list(server.temporary.iterdir()) == []


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


def ask(address: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request, with a body of bytes or JSON; the path goes as it is."""
    if body is not None and not isinstance(body, bytes):
        body, headers = json.dumps(body).encode(), {"Content_Type": "application/json", **headers}
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def form(**parts: Any) -> tuple[bytes, str]:
    """A multipart body of texts, and of files as (name, content), and its type."""
    mark = secrets.token_hex(8)
    body = b""
    for name, value in parts.items():
        file, content = ("", value.encode()) if isinstance(value, str) else (f'; filename="{value[0]}"', value[1])
        body += f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def upload(address: str, name: str, content: bytes, **headers: str) -> str:
    """Send a file; returns its id."""
    begun = ask(address, "POST", "/v1/uploads", {"name": name, "bytes": len(content)}, **headers)
    assert begun.status == 201, begun.body
    sent = ask(address, "PATCH", f"/v1/uploads/{begun.json['id']}", content, Upload_Offset="0", **headers)
    assert sent.json == {"offset": len(content)}
    return begun.json["id"]


def cookie(answer: Answer) -> str:
    return answer.headers["Set-Cookie"].split(";")[0]


class listening:  # noqa: N801 — used like a function
    """An address, and what was heard there."""

    def __enter__(self) -> tuple[str, list[str]]:
        heard: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(self.path)
                self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}/clip.mp4", heard

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def still_serves(address: str) -> bool:
    return ask(address, "GET", "/healthz").body == b"ok\n"


def websocket(address: str, **headers: str) -> bytes:
    """What is answered to somebody who asks for the camera."""
    host = urlsplit(address)
    lines = ["GET /v1/live HTTP/1.1", f"Host: {host.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((host.hostname, host.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(1000)
