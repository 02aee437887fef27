"""Fingerprints of inputs, which a cache is keyed by, and of files; files that are whole or as they were."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textflow.runtime.atomic import settle


def fingerprint(*parts: object) -> str:
    """16 hex digits of plain values (numbers, strings, lists of them)."""
    said = json.dumps(parts, ensure_ascii=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def stamp(path: Path) -> tuple[str, int, int]:
    """A file's full name, size and time of change: enough to notice that it is another, without reading it."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def folder_stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Stamps of all files under a folder, in order of name."""
    return [stamp(path) for path in under(folder)]


def under(folder: Path) -> list[Path]:
    """All files under a folder, in order of name."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """A folder to write into; its files then replace those of `folder` one by one, each whole on the disk."""
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        for path in under(beside):
            settle(path)
            (folder / path.relative_to(beside)).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, folder / path.relative_to(beside))
        settle(folder)
    except OSError as error:
        error.filename = error.filename or str(folder)  # a full disk names no file
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
