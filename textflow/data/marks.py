"""Fingerprints of inputs: what a cache is keyed by."""

import hashlib
import json
from pathlib import Path


def fingerprint(*parts: object) -> str:
    """16 hex digits of plain values (numbers, strings, lists of them)."""
    said = json.dumps(parts, ensure_ascii=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def stamp(path: Path) -> tuple[str, int, int]:
    """A file's full name, size and time of change: enough to notice that it is another, without reading it."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def content(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Stamps of all files under a folder, in order of name."""
    return [stamp(path) for path in sorted(folder.rglob("*")) if path.is_file()]
