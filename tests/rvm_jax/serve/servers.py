"""`rvm serve` as a process, and its HTTP API as a program calls it."""

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

COUNT = 12
"""How many frames the clip has."""

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
        env={**os.environ, "TMPDIR": str(temporary), "XLA_FLAGS": "--xla_backend_optimization_level=0"},
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


def request(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.host, timeout=120)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.read().decode(errors="replace")
    connection.close()
    return response.status, answer


def send(server: Server, content: bytes, name: str, **headers: str) -> tuple[int, str]:
    mark = secrets.token_hex(8)
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
    return request(
        server, "POST", "/gradio_api/upload", body, Content_Type=f"multipart/form-data; boundary={mark}", **headers
    )


def call(server: Server, function: str, **headers: str) -> Any:
    """What it answers in the end; for an error its message."""

    def ask(**values: Any) -> Any:
        path = f"/gradio_api/call/v2/{function}"
        body = json.dumps(values).encode()
        status, answer = request(server, "POST", path, body, Content_Type="application/json", **headers)
        assert status == 200, answer
        _, answer = request(server, "GET", f"{path}/{json.loads(answer)['event_id']}", **headers)
        event, data = answer.strip().split("\n\n")[-1].split("\n")
        told = json.loads(data.removeprefix("data: "))
        return told["error"] if event == "event: error" else told[0]

    return ask


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
