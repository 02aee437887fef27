"""Atomic file writes, file locks and checksums."""

import hashlib
import json
import os
import pickle
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

LOCK_NAME = ".lock"  # in a temporary folder: its writer holds the lock on this file
TEMPORARY_NAME = re.compile(r"\.\d+-[0-9a-f]{16}\.(new|tmp)\b")  # suffix of a temporary folder's name


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file, fsync it and rename it over the target; an incomplete file is removed.

    Args:
        path: target file.
        write: function that writes the file, given a temporary path.
    """
    try:
        with temporary_path(path) as temporary:
            write(temporary)
            with suppress(OSError):  # not all file systems have modes; safetensors writes owner-only files
                temporary.chmod(temporary.parent.stat().st_mode & 0o666)
            fsync(temporary)
            os.replace(temporary, path)
    except OSError as error:
        if error.filename is None or TEMPORARY_NAME.search(str(error.filename)):  # ENOSPC has no file name
            error.filename = str(path)
        raise
    fsync(path.parent)


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """A path in a new temporary folder next to the target; the folder has a random name and is removed on exit."""
    remove_stale(path.parent)
    name = f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(8)}"
    new, folder = path.with_name(name + ".new"), path.with_name(name + ".tmp")
    new.mkdir()
    try:
        with (new / LOCK_NAME).open("xb") as file:
            with suppress(OSError):  # without file locks, folders of killed writers are not removed
                lock_file(file)
            new.rename(folder)  # renamed only once locked, so that `remove_stale` never removes it
            yield folder / path.name
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Remove temporary folders of killed writers."""
    for left in folder.glob(".*.tmp"):
        if TEMPORARY_NAME.search(left.name) and is_stale(left):
            shutil.rmtree(left, ignore_errors=True)


def is_stale(folder: Path) -> bool:
    """True if no process writes into a folder of `temporary_path`: its lock is free or missing."""
    try:
        with (folder / LOCK_NAME).open("rb+") as file:
            lock_file(file)
    except FileNotFoundError:  # another process is removing it
        return True
    except OSError:
        return False
    return True


def lock_file(file: IO[Any]) -> None:
    """Lock an open file until it is closed or its process ends; BlockingIOError if another process holds the lock."""
    import fcntl  # missing on Windows, where only reading is supported

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def atomic_write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically."""
    atomic_write_text(path, json.dumps(value, indent=1) + "\n")


def fsync(path: Path) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_under(folder: Path) -> list[Path]:
    """All files under a folder, sorted by name."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file under a folder, by its relative path."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files_under(folder)}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe_error(error: Exception) -> str:
    """One-line reason why weights cannot be read; torch's own message suggests unpickling untrusted code."""
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are damaged, or a pickle with code, which is not run"
    message = " ".join(str(error).split())[:400]
    if isinstance(error, (OSError, ValueError, RuntimeError)):
        return message
    return f"{type(error).__name__} {message}".rstrip()
