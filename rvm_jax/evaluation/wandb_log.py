"""Logging of an evaluation's tables and pictures to Weights & Biases."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal


def log(
    mode: Literal["offline", "online"],
    out: Path,
    tables: Mapping[str, Sequence[Sequence[str]]],
    written: Sequence[Path],
) -> None:
    """Log these tables, and the pictures among the files that were written.

    All of it is on disk already, so whatever goes wrong here is printed, not raised.
    """
    try:
        import wandb

        with wandb.init(project="rvm-jax", job_type="evaluation", mode=mode, dir=out) as run:
            for name, (head, *rows) in tables.items():
                run.log({name: wandb.Table(columns=["method", *head[1:]], data=[list(row) for row in rows])})
            run.log({path.stem: wandb.Image(str(path)) for path in written if path.suffix == ".png"})
    except Exception as error:
        print(f"rvm: W&B did not take it: {error}", file=sys.stderr)
