"""PASS as its owners ship it: ten tar files of some 150,000 pictures without people each, which stay packed."""

import functools
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.archives import decode, parts
from data_pipelines.archives.clip import ArchiveClip, Found, Record
from data_pipelines.archives.members import TarMember, tar_members

FOLDER = "pass"
URL = "https://zenodo.org/record/6615455/files/"
SHA256 = (
    "5ff59cbf372a05d82c22afa8191eb229959730fd371b84a0ec784e7f91b1d285",
    "d7b3a1d82c9695f31e9d8ebb71f450afef39e3353c608971fc74780f59e909fd",
    "b62021816caac550580fcace7e74e8cb7358663006a7e28707c602859aa51243",
    "2af47eab3a026ca5a747cccf3d6ababbd5a9b028d99d6f76e92a01d2f2b64276",
    "0170c73cc846e07fbf2bbece0ea62a893b0d440b937dcac965e5b25f4e75006d",
    "79ccc5167fa0e7950fc6dca1eec3c9b8db1d31313a83c8a19d2f9b9a88d1eeaf",
    "adabc1ab18be4587a4c1882633015845681e9d8551075406e8d83a025819eef6",
    "8661044c3a46f1e2f5c2fa96b9deb48c6b2d218ac9753b139073186920c15ab7",
    "0dba1ac815c001d9a83787321e1929b03cebcccc1a8f12725eec866e80480a1f",
    "9a7ab254638f4bf21267aa0165452572ae52d82aabb451a65e56a2d51a17e982",
)
"""Of the parts, in order."""
SHORT_SIDE = 2048
VALIDATION_EVERY = 1000


def find(manual: Path, config: str = "", *_: object) -> Found:
    """The pictures of all parts, or of those that the config names; of each 1,000, the first is for validation."""
    archives = [manual / FOLDER / file_name(number) for number in parts.chosen("pass_backgrounds", config)]
    return parts.find("pass_backgrounds", archives, _clips, share="0", validation_every=VALIDATION_EVERY)


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


def _clips(archive: Path, found: Found) -> list[ArchiveClip]:
    """The pictures of a tar file."""
    pictures = [member for member in tar_members(archive) if Path(member.name).suffix == ".jpg"]
    if not pictures:
        found.errors.append(f"{archive} holds no pictures, NAME.jpg: get it again from {URL}")
    return [ArchiveClip(Path(one.name).stem, (archive,), functools.partial(encode, one)) for one in pictures]
