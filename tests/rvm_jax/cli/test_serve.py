"""`rvm serve`: what the user has to mend is one line, before anything is loaded."""

import errno
import io
import os
import re
import socket
import subprocess
import sys

import pytest

from rvm_jax.cli import serve
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.serve import access, app, jobs
from tests.rvm_jax.serve.servers import ask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets others in: say who with --auth FILE"),
        (["--host", "::"], "--host :: lets others in"),
        (["--host", "example.org"], "--host example.org lets others in"),
        (["--port", "70000"], "--port 70000: expected a number from 1 to 65535"),
        (["--max-megabytes", "0"], "--max-megabytes 0: expected a number above 0"),
        (["--keep-minutes", "nan"], "--keep-minutes nan: expected a number above 0"),
        (["--auth", "none.txt"], "--auth none.txt cannot be read: make it with rvm serve --auth none.txt --add-user"),
        (["--auth", "a.txt", "--without-login"], "--auth, --proxy-auth and --without-login exclude each other"),
        (["--proxy-auth", "X-User"], "--proxy-auth needs the name under which browsers open the proxy"),
        (["--add-user", "ann"], "--add-user and --add-token need --auth FILE"),
        (["--host", "0.0.0.0", "--without-login"], "none.pth does not exist"),
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


def test_missing_weights_are_told(capsys):
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.startswith("rvm: --weights is missing: give a name that `rvm weights` lists")


def test_users_and_tokens_are_added_to_a_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "people.txt"
    monkeypatch.setattr("sys.stdin", io.StringIO("secret word\n"))
    assert main(["serve", "--auth", str(path), "--add-user", "ann"]) == 0
    assert main(["serve", "--auth", str(path), "--add-token", "ann"]) == 0
    said, token = capsys.readouterr().out.splitlines()
    assert said == f"ann may log in, by {path}"
    assert access.check_password(access.Access(path), "ann", "secret word")
    assert access.token_person(access.Access(path), token) == "person:ann"
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert main(["serve", "--auth", str(path), "--add-user", "bob"]) == 2
    assert "bob" not in path.read_text()
    path.write_text("\n")
    assert main(["serve", "--weights", "none.pth", "--auth", str(path)]) == 2
    assert f"--auth {path} names nobody: add somebody with" in capsys.readouterr().err
    assert main(["serve", "--auth", str(path), "--add-token", "ann"]) == 0  # for programs alone
    assert main(["serve", "--weights", "none.pth", "--auth", str(path)]) == 2
    assert capsys.readouterr().err.startswith("rvm: none.pth does not exist")


def test_a_missing_server_is_told_with_what_to_install():
    program = (
        "import sys\nsys.modules['uvicorn'] = None\n"
        "from rvm_jax.cli.main import main\nsys.exit(main(['serve', '--weights', 'none.pth']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "rvm: uvicorn is not installed: this needs pip install 'rvm-jax[web]'\n"


def test_help_loads_nothing_heavy():
    program = (
        "import sys, contextlib, rvm_jax.cli.main\n"
        "with contextlib.suppress(SystemExit): rvm_jax.cli.main.main(['serve', '--help'])\n"
        "print([m for m in ('jax', 'flax', 'torch', 'av', 'PIL', 'starlette') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def service(folder) -> jobs.Service:
    return jobs.Service(jobs.Limits(), folder, matte=None)  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError) as caught:
            app.serve_page(service(tmp_path), access.Access(), "127.0.0.1", port).__enter__()
    reason = os.strerror(errno.EADDRINUSE)
    assert str(caught.value).startswith(f"--host 127.0.0.1 --port {port} cannot be used: {reason}")


def test_a_host_that_is_none_is_told(tmp_path):
    with pytest.raises(InputError, match=r"^--host 192.0.2.1 --port 7860 cannot be used: .*; try another"):
        app.serve_page(service(tmp_path), access.Access(), "192.0.2.1", 7860).__enter__()


@pytest.mark.parametrize(
    ("host", "there"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("::", "[::1]")],
)
def test_each_kind_of_host_is_served_whatever_proxy_there_is(tmp_path, host, there, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    if ":" in host:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    with app.serve_page(service(tmp_path), access.Access(), host, 0) as address:
        assert re.fullmatch(rf"http://{re.escape(there)}:\d+/", address)
        assert ask(address, "GET", "/healthz").status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.0.1"])
def test_this_machine(host):
    assert serve._is_this_machine(host)
