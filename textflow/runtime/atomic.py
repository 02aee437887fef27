"""Files that are whole on the disk or not there."""

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

HELD = ".held"  # in a folder that is written into: its writer has the lock of this file
OURS = re.compile(r"\.\d+-[0-9a-f]{16}\.(new|tmp)\b")  # the end of such a folder's name


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside a file, waits for the disk, renames over it; what could not be written whole is removed.

    Args:
        path: of the file.
        write: called with the path to write to.
    """
    try:
        with beside(path) as made:
            write(made)
            with suppress(OSError):  # a file system without modes; safetensors makes files for their owner alone
                made.chmod(made.parent.stat().st_mode & 0o666)
            settle(made)
            os.replace(made, path)
    except OSError as error:
        if error.filename is None or OURS.search(str(error.filename)):  # a full disk names no file
            error.filename = str(path)
        raise
    settle(path.parent)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write a file at, in a folder beside it that is new, of a name that nobody knows, and removed after.

    Args:
        path: where the file is to stand in the end.
    """
    clear(path.parent)
    name = f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(8)}"
    new, folder = path.with_name(name + ".new"), path.with_name(name + ".tmp")
    new.mkdir()
    try:
        with (new / HELD).open("xb") as file:
            with suppress(OSError):  # a file system without locks: what is killed there stays
                lock(file)
            new.rename(folder)  # `clear` sees no folder that is not held yet
            yield folder / path.name
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def clear(folder: Path) -> None:
    """Removes what killed writers left in a folder."""
    for left in folder.glob(".*.tmp"):
        if OURS.search(left.name) and abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def abandoned(left: Path) -> bool:
    """Whether nobody writes into a folder of `beside`: its lock is free, or gone."""
    try:
        with (left / HELD).open("rb+") as file:
            lock(file)
    except FileNotFoundError:  # it was being removed
        return True
    except OSError:
        return False
    return True


def lock(file: IO[Any]) -> None:
    """Locks an open file until it is closed or its process ends; BlockingIOError where another holds it."""
    import fcntl  # not on Windows, where all that reads works without it

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


def unread(error: Exception) -> str:
    """Why weights could not be read, in a line; torch's own words advise to run what a pickle holds."""
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are damaged, or a pickle with code, which is not run"
    said = " ".join(str(error).split())[:400]
    return said if isinstance(error, (OSError, ValueError, RuntimeError)) else f"{type(error).__name__} {said}".rstrip()
