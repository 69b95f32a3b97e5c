"""Licences of datasets: what their owners let people do with them, kept beside what is prepared of them.

What is said here is what the owners say; it is no legal advice. Where they say nothing, `commercial` is "unknown".
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.files import replacing
from rvm_jax.host.paths import Location, is_url

FILE = "licence.json"


@dataclass(frozen=True)
class Licence:
    """What the owner of a dataset lets people do with it.

    Attributes:
        name: Of the licence, such as "CC-BY-4.0", or a few words where it has none.
        link: To its text, or to where the owner says so.
        commercial: Whether its owner allows a use that earns money.
        attribution: Whom to name.
    """

    name: str
    link: str
    commercial: Literal["yes", "no", "unknown"]
    attribution: str

    def to_json(self) -> dict[str, str]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Licence":
        if stored["commercial"] not in ("yes", "no", "unknown"):
            raise ValueError(f"its commercial use is {stored['commercial']!r}, not yes, no or unknown")
        return cls(**{field.name: stored[field.name] for field in dataclasses.fields(cls)})


def read(folder: Location) -> Licence | None:
    """The licence in the folder of a prepared dataset; None of one prepared before licences were kept."""
    path = buckets.join(folder, FILE)
    try:
        stored = buckets.read(path) if is_url(path) else Path(path).read_bytes()
        return None if stored is None else Licence.from_json(json.loads(stored))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is not the licence of a dataset ({error}): mend it, or remove it and give `rvm data prepare` again"
        ) from error


def write(licence: Licence, folder: Path) -> None:
    """Put the licence of a dataset into its folder."""
    with replacing(folder / FILE, overwrite=True) as partial:
        partial.write_text(json.dumps(licence.to_json(), indent=2) + "\n")
