"""`rvm serve`: what the user has to mend is one line, before anything is loaded."""

import os
import socket
import subprocess
import sys

import pytest

from rvm_jax.cli import serve
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets others in: say who with --auth FILE"),
        (["--host", "::"], "--host :: lets others in"),
        (["--host", "example.org"], "--host example.org lets others in"),
        (["--port", "70000"], "--port 70000: expected a number from 1 to 65535"),
        (["--max-megabytes", "0"], "--max-megabytes 0: expected a number above 0"),
        (["--keep-minutes", "nan"], "--keep-minutes nan: expected a number above 0"),
        (["--auth", "none.txt"], "--auth none.txt cannot be read: expected a file"),
        ([], "none.pth does not exist"),
    ],
    ids=str,
)
def test_what_the_user_has_to_mend_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--weights", "none.pth", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rvm: {message}")
    assert error.count("\n") == 1


def test_a_missing_gradio_is_told_with_what_to_install():
    program = (
        "import sys\nsys.modules['gradio'] = None\n"
        "from rvm_jax.cli.main import main\nsys.exit(main(['serve', '--weights', 'none.pth']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "rvm: gradio is not installed: this needs pip install 'rvm-jax[web]'\n"


def test_help_loads_nothing_heavy():
    program = (
        "import sys, contextlib, rvm_jax.cli.main\n"
        "with contextlib.suppress(SystemExit): rvm_jax.cli.main.main(['serve', '--help'])\n"
        "print([m for m in ('jax', 'flax', 'torch', 'av', 'PIL', 'gradio') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(tmp_path):
    pytest.importorskip("gradio")
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from rvm_jax.errors import InputError\nfrom rvm_jax.serve import app, jobs\n"
        "service = jobs.Service(None, jobs.Limits(), Path(sys.argv[1]))\n"
        "try:\n    app.serve_page(service, '127.0.0.1', int(sys.argv[2]), None).__enter__()\n"
        "except InputError as error:\n    print(error)"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", program, str(tmp_path), str(port)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"--host 127.0.0.1 --port {port} cannot be used: is it taken? Try another --port\n"


SERVED = """
import contextlib, sys, urllib.request
from pathlib import Path
from rvm_jax.errors import InputError
from rvm_jax.serve import app, jobs
service = jobs.Service(None, jobs.Limits(), Path(sys.argv[1]))
for host in sys.argv[3:]:
    with app.serve_page(service, host, int(sys.argv[2]), None) as address:
        answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address)
        print(host, address, answer.status)

def broken(*_, **__):
    raise ValueError("no\\nway")

app.gr.Blocks.launch = broken
try:
    app.serve_page(service, "127.0.0.1", int(sys.argv[2]), None).__enter__()
except InputError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_each_kind_of_host_is_served_whatever_proxy_there_is(tmp_path, proxy):
    pytest.importorskip("gradio")
    try:
        with socket.socket(socket.AF_INET6) as free:
            free.bind(("::1", 0))
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    hosts = {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::1": "[::1]", "[::1]": "[::1]", "::": "[::1]"}
    result = subprocess.run(
        [sys.executable, "-c", SERVED, str(tmp_path), str(port), *hosts],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HTTP_PROXY": proxy, "ALL_PROXY": proxy},
    )
    assert result.stdout.splitlines() == [
        *(f"{host} http://{there}:{port}/ 200" for host, there in hosts.items()),
        f"--host 127.0.0.1 --port {port} cannot be used: no way; try another --host",
    ]


FULL = """
import sys, urllib.error, urllib.request
from pathlib import Path
from rvm_jax.serve import app, jobs, uploads
service = jobs.Service(None, jobs.Limits(), Path(sys.argv[1]))
uploads.RESERVE = 10**18
with app.serve_page(service, "127.0.0.1", int(sys.argv[2]), None) as address:
    try:
        urllib.request.urlopen(f"{address}gradio_api/upload", b"a video")
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
print([path.name for path in service.folder.rglob("*") if path.is_file()])
"""


@pytest.mark.slow
def test_nothing_is_sent_to_a_full_disk(tmp_path):
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", FULL, str(tmp_path), str(port)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["507 the disk of this server is full: try again later", "[]"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.0.1"])
def test_this_machine(host):
    assert serve._is_this_machine(host)


def test_accounts(tmp_path):
    path = tmp_path / "people.txt"
    path.write_text("ann:a:b\n\nbob:c d\n")
    assert serve._accounts(path) == [("ann", "a:b"), ("bob", "c d")]
    for text, message in (
        ("ann", "line 1: expected NAME:PASSWORD"),
        (":x", "line 1: expected"),
        ("\n", "is empty: expected a line"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            serve._accounts(path)
