"""Files inside of zip and tar files, read where they are: nothing is unpacked. Worker processes import this."""

import functools
import io
import os
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from rvm_jax.errors import InputError


@dataclass(frozen=True)
class Member:
    """A file inside of an archive; it is read as a `Path` is."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read_bytes(self) -> bytes:
        raise NotImplementedError

    def open(self, _: str) -> io.BytesIO:
        return io.BytesIO(self.read_bytes())


class ZipMember(Member):
    """A file inside of a zip file."""

    def read_bytes(self) -> bytes:
        try:
            return _zip(self.archive).read(self.name)
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError) as error:
            raise _damaged(self, error) from error


@dataclass(frozen=True)
class TarMember(Member):
    """A file inside of a tar file that is not compressed."""

    offset: int
    size: int

    def read_bytes(self) -> bytes:
        try:
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise _damaged(self, error) from error
        if len(content) < self.size:
            raise _damaged(self, EOFError("it ends before that"))
        return content


Picture = Path | Member


def zip_members(archive: Path) -> list[ZipMember]:
    """The files of a zip file, in its order."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return [ZipMember(archive, name) for name in opened.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive} is cut short or no zip file ({error}): get it again") from error


def tar_members(archive: Path) -> list[TarMember]:
    """The files of a tar file, in its order; only their headers are read."""
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as opened:
            found = [TarMember(archive, one.name, one.offset_data, one.size) for one in opened if one.isfile()]
            file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
            if any(file.read()):  # cut within a header, which the module takes for the end
                raise tarfile.ReadError("its end is missing")
            return found
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{archive} is cut short or no tar file ({error}): get it again") from error


@functools.lru_cache(maxsize=4)  # a list of its files is read with each that is opened
def _zip(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


def _damaged(member: Member, error: Exception) -> InputError:
    return InputError(f"{member} cannot be read, or the archive is damaged ({error}): get {member.archive} again")
