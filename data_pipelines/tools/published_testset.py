"""Published test sets: what their owners give, checked and written in the layout of `rvm evaluate`."""

import sys
from pathlib import Path

from data_pipelines.archives.clip import ArchiveClip
from data_pipelines.builders import catalog
from data_pipelines.records import licences
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.progress import with_progress

NAME = "published.txt"
"""In the folder of a test set: which one it is, for others have clips of the same names."""


def write(name: str, manual: Path, out: Path) -> int:
    """Write a test set of `catalog.TEST_SETS`, or what is missing of it; returns how many clips it has."""
    catalog.refuse_file(manual)
    found = catalog.find(name, manual, manual)
    for warning in found.warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr, flush=True)
    if found.errors:
        raise InputError("\n".join([f"{name} cannot be written:", *found.errors]))
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    others = sorted(there - {*found.splits, licences.FILE, NAME})
    if others:
        raise InputError(f"{out} holds other things, such as {others[0]}: give another folder, --out DIR")
    _check_name(name, out, bool(there & found.splits.keys()))
    wanted = [(out / split / clip.name, clip) for split, clips in found.splits.items() for clip in clips]
    for folder, clip in with_progress(wanted, out, "writing"):
        if not folder.is_dir():
            _write_clip(folder, clip)
    licences.write(catalog.licence(name), out)
    return len(wanted)


def _check_name(name: str, out: Path, begun: bool) -> None:
    """Note which test set the folder is to hold; refuse one that was begun with another."""
    path = out / NAME
    held = path.read_text().strip() if path.exists() else "another test set" if begun else name
    if held != name:
        raise InputError(f"{out} holds {held}, and {name} would be written: give another folder, --out DIR")
    with replacing(path, overwrite=True) as partial:
        partial.write_text(f"{name}\n")


def _write_clip(folder: Path, clip: ArchiveClip) -> None:
    with replacing(folder) as partial:
        for layer in ("com", "pha"):
            (partial / layer).mkdir(parents=True)
        for number, record in enumerate(clip.encode()):
            for layer, content in record.items():
                suffix = "png" if content.startswith(b"\x89PNG") else "jpg"
                (partial / layer / f"{number:04d}.{suffix}").write_bytes(content)
