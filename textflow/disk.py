"""Files that are whole on the disk or not there."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside a file, waits for the disk, renames over it; what could not be written whole is removed.

    Args:
        path: of the file.
        write: called with the path to write to.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        write(beside)
        settle(beside)
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # a full disk names no file
        raise
    settle(path.parent)


def replace_text(path: Path, text: str) -> None:
    """`replace` by a text, UTF-8.

    Args:
        path: of the file.
        text: all of it.
    """
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def replace_json(path: Path, said: object) -> None:
    """`replace_text` by JSON.

    Args:
        path: of the file.
        said: what json can write.
    """
    replace_text(path, json.dumps(said, indent=1) + "\n")


def settle(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def content(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
