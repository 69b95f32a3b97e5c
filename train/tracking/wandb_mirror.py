"""A run in Weights & Biases: a process of its own, which follows the run's folder.

Whatever W&B does then (no network, a full disk, a crash, waiting for ever), training goes on. If training is killed,
this process sends what there is and ends.

W&B's own environment counts, so that sweeps run: an agent gives each of its runs an id, a project and parameters there.
But a run that goes on stays the W&B run that it was.
"""

import json
import math
import netrc
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rvm_jax.host.files import replacing
from rvm_jax.host.paths import expanded
from rvm_jax.host.signals import LISTENED
from train.recipe.options import WandbMode
from train.run.run_folder import IDENTITY
from train.tracking import goodput, metrics_file

SECONDS_TO_REACH_IT = 30
SECONDS_BETWEEN_LOOKS = 1.0
PROJECT = "rvm-jax"
MAD = "validation/mad"


def resolve_mode(mode: WandbMode) -> WandbMode:
    """`auto` is what $WANDB_MODE says, or else online if W&B knows a key on this machine, and offline if not."""
    if mode != "auto":
        return mode
    environment = os.environ.get("WANDB_MODE")
    if environment in ("online", "offline", "disabled"):
        return environment  # type: ignore[return-value]  # mypy does not see that it is one of them
    return "online" if _has_key() else "offline"


def start(folder: Path, mode: WandbMode, project: str | None, *, artifacts: bool = False) -> subprocess.Popen[str]:
    """Mirror the run in `folder` from now on, until the process's standard input is closed.

    A run that W&B does not know yet is mirrored from its beginning. If it fails, the process leaves with a line on its
    standard error.
    """
    metrics = folder / metrics_file.NAME
    position = metrics.stat().st_size if metrics.exists() else 0
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 — it is a path for Python
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "train.tracking.wandb_mirror",
            str(folder.resolve()),
            mode,
            project or os.environ.get("WANDB_PROJECT") or PROJECT,
            str(position),
            str(os.getpid()),
            *["artifacts"] * artifacts,
        ],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for training
    )


def follow(path: Path, position: int, ended: Callable[[], bool]) -> Iterator[dict[str, float]]:
    """The numbers of each line from `position` on, as they come; `ended` waits a while, and says if there is an end."""
    last = False
    with path.open("rb") as file:
        file.seek(position)
        while True:
            position = file.tell()
            line = file.readline()
            if line.endswith(b"\n"):
                yield metrics_file.decode(line) or {}
            elif last:
                return
            else:
                file.seek(position)
                last = ended()


def mirror(
    folder: Path, mode: Any, project: str, position: int, process: int, ended: Callable[[], bool], *, artifacts: bool
) -> None:
    """Send what the run's folder holds, and what comes to it, to a W&B run whose id is kept in the folder.

    `process` is the one that trains, of which W&B measures processor, memory and devices.
    """
    id_file, metrics = folder / "wandb_id", folder / metrics_file.NAME
    new = not id_file.exists()
    run_id = (os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)) if new else id_file.read_text().strip()
    os.environ["WANDB_RUN_ID"] = run_id  # in a sweep, W&B takes it from nowhere else
    import wandb

    named = {"WANDB_NAME", "WANDB_SWEEP_ID"} & os.environ.keys()
    run = wandb.init(
        dir=folder,
        mode=mode,
        project=project,
        id=run_id,
        name=None if named else folder.name,
        resume="allow",
        config=_config(folder),
        allow_val_change=True,
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=SECONDS_TO_REACH_IT,
            disable_git=True,
            x_stats_pid=process,
        ),
    )
    if new:
        with replacing(id_file) as partial:
            partial.write_text(run_id)
    if run.url:
        with replacing(folder / "wandb_url", overwrite=True) as partial:
            partial.write_text(run.url)
    run.define_metric(MAD, summary="min,last")
    best = math.inf if new else min((line[MAD] for line in metrics_file.read(metrics) if MAD in line), default=math.inf)
    # Iterations that were repeated after a resume are in W&B already, with the same numbers; it leaves them out.
    for numbers in follow(metrics, 0 if new else position, ended):
        if numbers:
            step = int(numbers["iteration"])
            shown = _pictures(folder / "validation", step) if metrics_file.is_validation(numbers) else {}
            run.log({**numbers, **shown}, step=step)
            if numbers.get(MAD, math.inf) <= best:  # W&B's own least value is that of a session
                best = numbers[MAD]
                run.summary.update({"best_mad": best, "best_mad_iteration": step})
    sessions = goodput.read(folder)
    run.summary.update({f"time_spent/{kind}": seconds for kind, seconds in goodput.total(sessions).items()})
    if artifacts:
        _log_artifacts(run, folder)
    run.finish()


def main() -> None:
    """The process: W&B's own messages are dropped, and the first error ends it with one line."""
    for number in LISTENED:  # a cluster sends them to all processes; training says when it is over
        signal.signal(number, signal.SIG_IGN)
    stderr = os.fdopen(os.dup(2), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    folder, mode, project, position, process, *asked = sys.argv[1:]
    try:
        mirror(
            Path(folder), mode, project, int(position), int(process), _stdin_is_closed, artifacts="artifacts" in asked
        )
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=stderr, flush=True)
        os._exit(1)  # without W&B's own farewell, which may wait for ever


def _stdin_is_closed() -> bool:
    """Waits a while for it; nothing is ever written there."""
    return bool(select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0])


def _config(folder: Path) -> dict[str, Any]:
    """The recipe, and where the last session of the run takes place."""
    config = json.loads((folder / IDENTITY).read_text())
    return {**config, **metrics_file.sessions(folder / metrics_file.SESSIONS)[-1]}


def _log_artifacts(run: Any, folder: Path) -> None:
    """The weights and the report, if the run has come to its end."""
    import wandb

    for kind, names in {"model": ("weights", "weights.pth"), "report": ("report.html",)}.items():
        if found := [folder / name for name in names if (folder / name).exists()]:
            artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
            for path in found:
                (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path), name=path.name)
            run.log_artifact(artifact)


def _pictures(folder: Path, iterations: int) -> Mapping[str, Any]:
    import wandb

    sheet, film = folder / f"{iterations}.png", folder / f"{iterations}.mp4"
    shown: dict[str, Any] = {}
    if sheet.exists():
        shown["validation/sheet"] = wandb.Image(str(sheet))
    if film.exists():
        shown["validation/film"] = wandb.Video(str(film), format="mp4")
    return shown


def _has_key() -> bool:
    """Whether W&B would find a key, as far as one can tell without W&B, which takes seconds to import."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        return netrc.netrc(os.environ.get("NETRC") or expanded("~/.netrc")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


if __name__ == "__main__":
    main()
