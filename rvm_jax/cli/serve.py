"""`rvm serve`: parses, calls, prints; nothing else."""

import ipaddress
import time
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from rvm_jax.cli import devices
from rvm_jax.errors import InputError


def serve(
    *,
    weights: Annotated[str, arg(metavar="NAME|FILE|FOLDER|URL")],
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: Annotated[Path | None, arg(metavar="FILE")] = None,
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

    Example: rvm serve --weights mobilenetv3 --host 0.0.0.0 --auth people.txt

    Args:
        weights: A name of `rvm weights`, a .pth, .safetensors or released .onnx file, a JAX folder, or the folder of a
            training run; gs:// and s3:// too.
        host: The address to listen on; 0.0.0.0 is all of this machine's.
        port: The port to listen on.
        auth: A file with a line NAME:PASSWORD for each person who may use it.
        precision: What the network computes in. bfloat16 is faster on GPUs and TPUs.
        max_megabytes: How large a file may be.
        max_seconds: How long the part may be that is matted.
        max_side: How many pixels the longer side may have.
        max_waiting: How many jobs may wait.
        keep_minutes: How long files stay that nobody uses. After a download it is ten minutes at most.
    """
    if not _is_this_machine(host) and auth is None:
        raise InputError(f"--host {host} lets others in: say who with --auth FILE, a line NAME:PASSWORD for each")
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
    accounts = None if auth is None else _accounts(auth)

    devices.take_memory_as_needed()
    from rvm_jax.host import signals
    from rvm_jax.host.compilation_cache import enable_compilation_cache
    from rvm_jax.matte import load
    from rvm_jax.serve import app, jobs

    enable_compilation_cache()
    limits = jobs.Limits(max_megabytes, max_seconds, max_side, max_waiting, 60 * keep_minutes)
    with (
        jobs.serving(load(weights, precision).folded(), limits) as service,
        signals.stop_requests() as request,
        app.serve_page(service, host, port, accounts) as address,
    ):
        print(f"serving on {address} (Ctrl-C ends it)", flush=True)
        while not request():
            time.sleep(0.2)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _accounts(path: Path) -> list[tuple[str, str]]:
    """Names and passwords."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--auth {path} cannot be read: expected a file with a line NAME:PASSWORD for each") from error
    accounts = []
    for number, line in enumerate(lines, 1):
        name, _, password = line.partition(":")
        if not name or not password:
            raise InputError(f"--auth {path}, line {number}: expected NAME:PASSWORD")
        accounts.append((name, password))
    if not accounts:
        raise InputError(f"--auth {path} is empty: expected a line NAME:PASSWORD for each person")
    return accounts
