"""`rvm weights …`: parses, calls, prints; nothing else."""

import hashlib
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from rvm_jax.errors import InputError
from rvm_jax.host.progress import Progress
from rvm_jax.weights import released


def weights(
    name: Annotated[Positional[str | None], arg(metavar="[NAME|show]", help_behavior_hint="")] = None,
    file: Annotated[Positional[str | None], arg(metavar="[FILE]", help_behavior_hint="")] = None,
) -> None:
    """List released networks, download one into the cache, or tell what a file of weights was trained on.

    --weights takes the name of what was downloaded. `show` takes any file or folder that `rvm convert` or `rvm export`
    writes, the folder of a training run, and hf://OWNER/NAME.

    Those of RVM, MODNet, BackgroundMattingV2 and U²-Net. What lies on Google Drive is listed with its address.

    Example: rvm weights mobilenetv3

    Example: rvm weights show mine.safetensors

    Args:
        name: Of the one to download. Its licence is its owner's, not that of rvm-jax.
        file: What to show.
    """
    if (name == "show") != (file is not None):
        raise InputError("a file belongs to show, and show to a file, as in `rvm weights show mine.safetensors`")
    if file is not None:
        print(_shown(file))
        return
    if name is None:
        print(_overview())
        return
    if (elsewhere := released.ELSEWHERE.get(name)) is not None:
        raise InputError(
            f"{name} cannot be fetched by a command: download it at {elsewhere.address}, and name the file"
        )
    release = released.RELEASES.get(name)
    if release is None:
        raise InputError(f"there is no released network {name}: expected one of {', '.join(released.RELEASES)}")
    print(f"{name} is licensed under {release.licence} by its owner: {release.licence_url}")
    with Progress(name, "MB", round(release.size / 1e6) if isinstance(release.size, int) else None) as progress:
        path = released.download(name, lambda done: progress.update(round(done / 1e6)))
    if release.sha256 is None:
        print(f"what it should be is not known; its SHA-256 is {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(f"{path}\n--weights {name} takes it")


def _overview() -> str:
    rows = [("NAME", "SIZE", "LICENCE", "", "")]
    for name, release in released.RELEASES.items():
        where = str(release.path) if release.path.exists() else release.url
        rows.append((name, release.megabytes, release.licence, release.about, where))
    rows += [
        (name, one.size, one.licence, one.about, f"by hand: {one.address}") for name, one in released.ELSEWHERE.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", "`rvm weights NAME` downloads one; --weights NAME then takes it"])


def _shown(file: str) -> str:
    """What is known of a file: that it is a release, or what it was trained on."""
    from rvm_jax.weights import files, hub_folders, provenance  # which read folders with JAX's libraries

    path = Path(hub_folders.weights_in(file))
    if not path.exists():
        path = released.released_path(str(path)) or path
    if not path.exists():
        raise InputError(f"{path} does not exist: give a file or folder of weights, or the name of a release")
    told, what = provenance.read(path), f"{path}{_network(path)}"
    if told is not None:
        return f"{what}: {told.describe()}"
    if path.is_file():
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        for name, release in released.RELEASES.items():
            if release.sha256 == digest:
                return f"{what}: the released {name}, under {release.licence} by its owner ({release.licence_url})"
    if path.suffix.lower() != ".stablehlo":  # which no reader of weights knows
        with files.contents_of(path):  # what holds none is refused
            pass
    return f"{what} does not tell what it was trained on: ask whoever made it before you use it in a product"


def _network(path: Path) -> str:
    """Which network it is, with the sum by which `rvm table` knows it; nothing of files for other runtimes."""
    from rvm_jax.matte import load
    from rvm_jax.weights.names import digest

    try:
        matte = load(path)
    except InputError:
        return ""
    return f" ({matte.name}, sum {digest(matte.variables)})"
