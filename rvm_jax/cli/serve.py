"""`rvm serve`: parses, calls, prints; nothing else."""

import getpass
import ipaddress
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from rvm_jax.cli import devices
from rvm_jax.errors import InputError
from rvm_jax.host import signals


def serve(
    *,
    weights: Annotated[str | None, arg(metavar="NAME|FILE|FOLDER|URL")] = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: Annotated[Path | None, arg(metavar="FILE")] = None,
    add_user: Annotated[str | None, arg(metavar="NAME")] = None,
    add_token: Annotated[str | None, arg(metavar="NAME")] = None,
    proxy_auth: Annotated[str | None, arg(metavar="HEADER")] = None,
    without_login: bool = False,
    allow_host: Annotated[tuple[str, ...], arg(metavar="NAME...")] = (),
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    max_megabytes: float = 500,
    max_seconds: float = 300,
    max_side: int = 4096,
    max_waiting: int = 20,
    keep_minutes: float = 60,
) -> None:
    """Serve a page where one drops a video and gets its matte.

    For people who open no terminal, and as an HTTP API for programs. It listens to this machine alone; for others give
    --host 0.0.0.0 and --auth. One job runs at a time, the others wait. Files lie in a private folder below $TMPDIR, and
    all of them are gone when it ends. It asks nothing of other hosts.

    Example: rvm serve --weights mobilenetv3

    Example: rvm serve --auth people.txt --add-user ann

    Example: rvm serve --weights mobilenetv3 --host 0.0.0.0 --auth people.txt

    Args:
        weights: A name of `rvm weights`, a .pth, .safetensors or released .onnx file, a JAX folder, or the folder of a
            training run; gs:// and s3:// too.
        host: The address to listen on; 0.0.0.0 is all of this machine's.
        port: The port to listen on.
        auth: A file of the people who may use it, which --add-user and --add-token write.
        add_user: Ask for a password of that person, keep its hash in the file of --auth, and end. Who is there already
            gets a new one.
        add_token: Print a new token for programs of that person, keep its hash in the file of --auth, and end.
        proxy_auth: The header in which a proxy that lets people in tells who it is. Only that proxy may reach the port;
            give its name to --allow-host.
        without_login: Let in whoever reaches the port.
        allow_host: The names under which browsers may open it, beside localhost.
        precision: What the network computes in. bfloat16 is faster on GPUs and TPUs.
        max_megabytes: How large a file may be.
        max_seconds: How long the part may be that is matted.
        max_side: How many pixels the longer side may have.
        max_waiting: How many jobs may wait; of one person half of them.
        keep_minutes: How long files stay that nobody uses.
    """
    if add_user is not None or add_token is not None:
        _add(auth, add_user, add_token)
        return
    if weights is None:
        raise InputError("--weights is missing: give a name that `rvm weights` lists, or a file or folder")
    if sum((auth is not None, proxy_auth is not None, without_login)) > 1:
        raise InputError("--auth, --proxy-auth and --without-login exclude each other: give one of them")
    if not (_is_this_machine(host) or auth or proxy_auth or without_login):
        raise InputError(f"--host {host} lets others in: say who with --auth FILE, which --add-user writes")
    if proxy_auth is not None and not allow_host:
        raise InputError("--proxy-auth needs the name under which browsers open the proxy: give it to --allow-host")
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: expected a number from 1 to 65535")
    for option, value in {
        "--max-megabytes": max_megabytes,
        "--max-seconds": max_seconds,
        "--max-side": max_side,
        "--max-waiting": max_waiting,
        "--keep-minutes": keep_minutes,
    }.items():
        if not value > 0:
            raise InputError(f"{option} {value:g}: expected a number above 0")

    from rvm_jax.serve import access

    accounts = None if auth is None else access.read(auth)
    if accounts is not None and not (accounts.passwords or accounts.tokens):
        raise InputError(f"--auth {auth} names nobody: add somebody with rvm serve --auth {auth} --add-user NAME")

    devices.take_memory_as_needed()
    with signals.late_interrupt():
        from rvm_jax.host.compilation_cache import enable_compilation_cache
        from rvm_jax.matte import load
        from rvm_jax.serve import app, jobs

    enable_compilation_cache()
    allowed = access.Access(auth, proxy_auth, tuple(name.lower() for name in allow_host))
    limits = jobs.Limits(max_megabytes, max_seconds, max_side, max_waiting, 60 * keep_minutes)
    with (
        jobs.serving(load(weights, precision).folded(), limits, Path(weights).name) as service,
        signals.stop_requests() as request,
        app.serve_page(service, allowed, host, port) as address,
    ):
        print(f"serving on {address} (Ctrl-C ends it)", flush=True)
        while not request():
            time.sleep(0.2)


def _add(path: Path | None, user: str | None, token: str | None) -> None:
    from rvm_jax.serve import access

    if path is None:
        raise InputError("--add-user and --add-token need --auth FILE, where to keep what they make")
    if user is not None:
        access.check_name(user)
        access.add_user(path, user, _password(user))
        print(f"{user} may log in, by {path}")
    if token is not None:
        print(access.add_token(path, token))


def _password(user: str) -> str:
    """Asked for twice at a terminal, where it is not seen; else a line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    from rvm_jax.serve import access

    try:
        first = getpass.getpass(f"Password for {user} (at least {access.SHORTEST_PASSWORD} characters): ")
        again = getpass.getpass("The same again: ")
    except EOFError:
        raise InputError("no password was given: expected one, twice") from None
    if first != again:
        raise InputError("the two passwords differ: nothing was changed, give both again")
    return first


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
