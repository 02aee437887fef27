"""Numbered lines of UTF-8 files and JSON records, read with a bound and checked."""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textflow.data.base import Document


def lines(path: Path, limit: int) -> Iterator[tuple[int, str]]:
    """The lines of a text file from 1 on, without their ends; never holds more than `limit` bytes of a line."""
    number = 0
    with path.open("rb") as file:
        while raw := file.readline(limit + 2):
            number += 1
            if len(raw.rstrip(b"\r\n")) > limit:
                raise ValueError(too_long(f"{path}:{number}", limit, "the line"))
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield number, decoded(raw, path, number).rstrip("\r\n")


def decoded(raw: bytes, path: Path, number: int) -> str:
    """A line as text; says where it is not."""
    if b"\0" in raw:
        raise ValueError(
            f"{path}:{number}: a NUL byte, so a binary file; if it is UTF-16 text: {converted(path, 'UTF-16')}"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} of the line is 0x{raw[error.start]:02x}"
        raise ValueError(
            f"{path}:{number}: not UTF-8 ({found}); if it is Latin-1: {converted(path, 'LATIN1')}"
        ) from None


def converted(path: Path, encoding: str) -> str:
    """The command that makes a UTF-8 file of it."""
    return f"iconv -f {encoding} -t UTF-8 {path.name} > utf8_{path.name}"


def too_long(origin: str, limit: int, what: str = "the document") -> str:
    """The error that keeps memory bounded."""
    return f"{origin}: {what} is longer than {limit:,} bytes; cut it up (Files: split=line), or raise max_document"


def records(path: Path, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON lines file, each with its origin."""
    for number, line in lines(path, limit):
        origin = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{origin}: not JSON ({error}); a .jsonl file holds one object a line") from None
        if not isinstance(record, dict):
            raise ValueError(f'{origin}: a {type(record).__name__}, an object such as {{"text": ...}} is needed')
        yield origin, record


def picked(record: dict[str, Any], column: str, origin: str) -> Document:
    """The document in a record's column; null is an empty one."""
    if column not in record:
        raise ValueError(no_column(column, list(record), origin))
    return checked(record[column], column, origin)


def checked(value: Any, column: str, origin: str) -> Document:
    """A document, if the value is text that has a UTF-8 form."""
    if value is None:
        return Document("", origin)
    if not isinstance(value, str):
        shown = repr(value)[:40]
        raise ValueError(f"{origin}: column {column!r} holds {shown} ({type(value).__name__}), text is needed")
    if "\0" in value:
        raise ValueError(f"{origin}: column {column!r} holds a NUL character, so it is no text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{origin}: column {column!r} has no UTF-8 form ({error.reason})") from None
    return Document(value, origin)


def no_column(column: str, there: list[str], origin: str) -> str:
    """The error for a missing column: those that exist, nearest first."""
    near = get_close_matches(column, there, n=len(there) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in there if name not in near)]) or "none"
    way = "choose by the source's column; for --data.files F: --data.source Files --data.source.paths F"
    return f"{origin}: no column {column!r}; there are: {names}; {way} --data.source.column NAME"
