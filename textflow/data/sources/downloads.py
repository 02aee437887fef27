"""Packages of text that the user downloads, known by their hash."""

from pathlib import Path

from textflow.runtime.atomic import sha256


def find_download(path: str, name: str, digest: str, kind: str, command: str) -> Path:
    """The downloaded file at a path, or of its own name in a folder there.

    Args:
        path: the file or its folder.
        name: name of the file.
        digest: SHA-256 of the file, in hexadecimal.
        kind: kind of the file, for errors, e.g. news wheel.
        command: command that downloads it, for errors.

    Raises:
        ValueError: if there is no such file, or one with another hash.
    """
    found = Path(path).expanduser()
    found = found / name if found.is_dir() else found
    if not found.is_file():
        raise ValueError(f"no {kind} found at {found}; fetch it with: {command}")
    if sha256(found) != digest:
        reason = "is not the file expected (its sha256 differs)"
        raise ValueError(f"{found} {reason}; fetch it again with: {command}")
    return found
