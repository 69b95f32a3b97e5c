"""PASS as its owners ship it: ten tar files of some 150,000 pictures without people each, which stay packed."""

import functools
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.archives import decode, parts
from data_pipelines.archives.clip import ArchiveClip, Found, Record, split_clips
from data_pipelines.archives.error_messages import first_few
from data_pipelines.archives.members import TarMember, tar_members
from rvm_jax.errors import InputError
from rvm_jax.host.progress import with_progress

FOLDER = "pass"
PARTS = 10
URL = "https://zenodo.org/record/6615455/files/"
SHORT_SIDE = 2048
VALIDATION_EVERY = 1000


def find(manual: Path, config: str = "", *_: object) -> Found:
    """The pictures of all parts, or of those that the config names; of each 1,000, the first is for validation."""
    folder = manual / FOLDER
    archives = [folder / file_name(number) for number in parts.chosen("pass_backgrounds", config, PARTS)]
    found = Found()
    missing = [path.name for path in archives if not path.is_file()]
    if missing:
        found.errors.append(
            f"{folder} lacks {len(missing)} of {len(archives)} tar files: {first_few(missing)}; `rvm data download` "
            "gets them, and a share such as pass_backgrounds/0 needs fewer"
        )
        return found
    clips = []
    for path in with_progress(archives, folder):
        try:
            pictures = [member for member in tar_members(path) if Path(member.name).suffix == ".jpg"]
        except InputError as error:
            found.errors.append(str(error))
            continue
        if not pictures:
            found.errors.append(f"{path} holds no pictures, NAME.jpg: get it again from {URL}")
        clips += [_clip(member) for member in pictures]
    found.splits = split_clips(clips, VALIDATION_EVERY)
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of tar files."""
    return [manual / FOLDER]


def file_name(number: int) -> str:
    """Of a part."""
    return f"PASS.{number}.tar"


def encode(member: TarMember) -> Iterator[Record]:
    """The one record of a picture; a JPEG that is not shrunk keeps its own bytes."""
    picture = decode.read_picture(member)
    small = decode.shrink(picture, short_side=SHORT_SIDE)
    kept = decode.jpeg_bytes(member) if small is picture else None
    yield {"image": kept or decode.encode_jpeg(small)}


def _clip(member: TarMember) -> ArchiveClip:
    return ArchiveClip(Path(member.name).stem, (member.archive,), functools.partial(encode, member))
