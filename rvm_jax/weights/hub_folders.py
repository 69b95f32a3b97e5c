"""Folders of the Hugging Face Hub: `config.json` and `model.safetensors`, here or fetched as `hf://owner/name`."""

import json
import os
import re
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location
from rvm_jax.model.variants import REFINERS, VARIANTS, Refiner

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SCHEME = "hf://"


def folder(name: Location) -> Path:
    """That of a name: a folder here, or a copy of what the Hub has as `owner/name`, with or without `hf://`.

    `owner/name@REVISION` is one that does not change any more. What huggingface_hub has in its cache is not fetched
    again; with HF_HUB_OFFLINE=1 it asks nobody.
    """
    path = Path(name)
    if not path.is_dir():
        path = _fetched(os.fspath(name))
    missing = [file for file in (CONFIG, WEIGHTS) if not (path / file).is_file()]
    if missing:
        raise InputError(f"{name} has no {missing[0]}: expected what `rvm export --to hub` writes")
    return path


def weights_in(location: Location) -> Location:
    """The file of weights, of `hf://owner/name` and of a folder that is one of the Hub's; else what is given."""
    if os.fspath(location).startswith(SCHEME):
        return folder(location) / WEIGHTS
    file = Path(location) / WEIGHTS
    return file if file.is_file() else location


def config(path: Path) -> tuple[str, Refiner]:
    """The variant and the refiner of the network in a folder."""
    try:
        known = json.loads((path / CONFIG).read_text())
        variant, refiner = known["variant"], known["refiner"]
    except (ValueError, KeyError, TypeError):
        variant = refiner = None
    if variant not in VARIANTS or refiner not in REFINERS:
        raise InputError(f"{path / CONFIG} tells no variant and refiner that are known here: get it again")
    return variant, refiner


def _fetched(name: str) -> Path:
    repository, _, revision = name.removeprefix(SCHEME).strip("/").partition("@")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository) or Path(name).exists():
        raise InputError(f"{name} is neither a folder nor a name on the Hugging Face Hub: expected hf://owner/name")
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(f"{name} needs the Hub's package: pip install 'rvm-jax[hub]'") from error
    try:
        wanted = [CONFIG, WEIGHTS]
        return Path(huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except Exception as error:  # of the network, of the Hub, of the cache
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{name} cannot be fetched from the Hugging Face Hub: {reason}") from error
