"""SynthHuman as its owner ships it: 60 zip files of 5,000 people each, which stay packed.

The people stand before a surrounding that was rendered with them: foregrounds are estimated.
"""

import functools
from pathlib import Path

from data_pipelines.archives import parts
from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.archives.composites import composite_records
from data_pipelines.archives.error_messages import first_few
from data_pipelines.archives.members import ZipMember, zip_members

FOLDER = "synthhuman"
URL = "https://facesyntheticspubwedata.z6.web.core.windows.net/iccv-2025/data/"
SHORT_SIDE = 1080
VALIDATION_EVERY = 250


def find(manual: Path, config: str = "", *_: object) -> Found:
    """The people of all parts, or of those that the config names; of each 250, the first is for validation."""
    archives = [manual / FOLDER / file_name(number) for number in parts.chosen("synthhuman", config)]
    return parts.find("synthhuman", archives, _clips, share="0-5", validation_every=VALIDATION_EVERY)


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of zip files."""
    return [manual / FOLDER]


def file_name(number: int) -> str:
    """Of a part."""
    return f"SynthHuman_{number:04d}.zip"


def _clips(archive: Path, found: Found) -> list[ArchiveClip]:
    """The people of a zip file: rgb_NUMBER.png and alpha_NUMBER.png, in whatever folder."""
    kinds: dict[str, dict[str, ZipMember]] = {"rgb": {}, "alpha": {}}
    for member in zip_members(archive):
        path = Path(member.name)
        kind, _, number = path.stem.partition("_")
        if kind in kinds and path.suffix == ".png":
            kinds[kind][number] = member
    lonely = [str(kinds[kind][number]) for kind in kinds for number in sorted(kinds[kind]) if _alone(number, kinds)]
    if lonely:
        found.errors.append(f"{len(lonely)} pictures have no partner: {first_few(lonely)}; get {archive} again")
    elif not kinds["rgb"]:
        found.errors.append(f"{archive} holds no rgb_NUMBER.png and alpha_NUMBER.png: get it again from {URL}")
    return [
        ArchiveClip(
            number, (archive,), functools.partial(composite_records, rgb, kinds["alpha"][number], short_side=SHORT_SIDE)
        )
        for number, rgb in sorted(kinds["rgb"].items())
        if not _alone(number, kinds)
    ]


def _alone(number: str, kinds: dict[str, dict[str, ZipMember]]) -> bool:
    return not all(number in members for members in kinds.values())
