"""Tables of datasets for people: what each is for, its licence, and what is prepared of it."""

from collections.abc import Iterator
from pathlib import Path

from data_pipelines.archives import parts
from data_pipelines.builders import catalog
from data_pipelines.records import licences
from data_pipelines.records.clips import open_prepared, prepared_folder
from data_pipelines.tools import download
from rvm_jax.host.paths import Location, is_url


def table(data_dir: Location) -> str:
    """A line for each dataset, those that may be used commercially first."""
    order = {"yes": 0, "unknown": 1, "no": 2}
    rows = sorted(_rows(data_dir), key=lambda row: order[row[1]])
    head = ("DATASET", "COMMERCIAL", "PREPARED", "FOR", "LICENCE")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in (head, *rows)]
    return "\n".join([*lines, "", "`rvm data show NAME` tells all about one. What owners say is no legal advice."])


def _rows(data_dir: Location) -> Iterator[tuple[str, str, str, str, str]]:
    for name in (*catalog.DATASETS, *catalog.SYNTHETIC, *catalog.TEST_SETS, *_others(data_dir)):
        folder, kept = _there(name, data_dir)
        licence = kept or catalog.licence(name)
        yield name, licence.commercial, "yes" if folder else "-", catalog.purpose(name), licence.name


def _others(data_dir: Location) -> list[str]:
    """Shares and footage of one's own, of which only the prepared ones have a name."""
    if is_url(data_dir):
        return []
    known = {*catalog.DATASETS, *catalog.SYNTHETIC}
    kinds = ("footage", "background_images", *parts.COUNTS)
    names = [f"{kind}/{path.name}" for kind in kinds for path in sorted(Path(data_dir, kind).glob("[!.]*"))]
    return [name for name in names if name not in known and prepared_folder(name, data_dir) is not None]


def describe(name: str, data_dir: Location) -> str:
    """All about a dataset, a line each."""
    folder, kept = _there(name, data_dir)
    licence = kept or catalog.licence(name)
    lines = {
        "for": catalog.purpose(name),
        "licence": licence.name,
        "its text": licence.link or "-",
        "commercial use": licence.commercial,
        "to be named": licence.attribution or "-",
        "to be had": _source(name),
        "prepared": _prepared(folder) if folder else f"not in {data_dir}",
    }
    if name in catalog.TEST_SETS:
        lines["prepared"] = f"never: `rvm data testset {name}` writes it for `rvm evaluate`"
    elif folder and kept is None:
        lines["prepared"] += f"; without its licence, which `rvm data prepare {name}` adds"
    return "\n".join([name, *(f"  {key:<16}{value}" for key, value in lines.items())])


def _there(name: str, data_dir: Location) -> tuple[str | Path | None, licences.Licence | None]:
    """The folder of a dataset that is prepared, and the licence in it."""
    folder = None if name in catalog.TEST_SETS else prepared_folder(name, data_dir)
    return folder, None if folder is None else licences.read(folder)


def _source(name: str) -> str:
    kind = name.partition("/")[0]
    if kind in download.SOURCES:
        return f"`rvm data download {name}`"
    if kind == "synthetic":
        return f"`rvm data prepare {name}` draws it"
    if kind == "footage":
        return "from you"
    return f"from its owner: `rvm data check {name}` tells what to ask for, and where to put it"


def _prepared(folder: str | Path) -> str:
    tables = open_prepared(folder).tables
    counts = (f"{split} {len(table['name']):,}" for split, table in tables.items())
    return f"{', '.join(counts)} in {folder}"
