"""Fingerprints of inputs and files, used as cache keys, and atomic replacement of a folder's files."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textflow.runtime.atomic import files_under, fsync


def fingerprint(*parts: object) -> str:
    """Hash of plain values (numbers, strings, lists of them), 16 hex digits."""
    encoded = json.dumps(parts, ensure_ascii=True, default=str)
    return hashlib.sha256(encoded.encode()).hexdigest()[:16]


def stamp(path: Path) -> tuple[str, int, int]:
    """Path, size and modification time of a file, which detect a change without reading it."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def folder_stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Stamps of all files under a folder, sorted by name."""
    return [stamp(path) for path in files_under(folder)]


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yield a staging folder whose files then replace those of `folder` one by one, each atomically."""
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        for path in files_under(staging):
            fsync(path)
            (folder / path.relative_to(staging)).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, folder / path.relative_to(staging))
        fsync(folder)
    except OSError as error:
        error.filename = error.filename or str(folder)  # a full disk names no file
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
