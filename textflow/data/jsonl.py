"""JSON lines and plain text lines of bounded length, and record fields by dotted names."""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textflow.data.base import Document

COLUMN_HINT = "set the source's column; for --data.files F: --data.source TextFiles --data.source.paths F "
COLUMN_HINT += "--data.source.column NAME"
FIELD_HINT = "set the source's field with --data.source.source_field and the target's with --data.source.target_field"


def read_lines(path: Path, max_bytes: int) -> Iterator[tuple[int, str]]:
    """Iterate over the lines of a text file, numbered from 1, without line ends; a line is at most `max_bytes` long."""
    number = 0
    with path.open("rb") as file:
        while raw := file.readline(max_bytes + 2):
            number += 1
            if len(raw.rstrip(b"\r\n")) > max_bytes:
                raise ValueError(too_long_error(f"{path}:{number}", max_bytes, "the line"))
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield number, decode_line(raw, path, number).rstrip("\r\n")


def decode_line(raw: bytes, path: Path, number: int) -> str:
    """Decode a line as UTF-8; the error names the position of the first invalid byte."""
    convert = f"-t UTF-8 {path.name} > utf8_{path.name}"
    if b"\0" in raw:
        reason = "a NUL byte, so a binary file; if it is UTF-16 text: iconv -f UTF-16"
        raise ValueError(f"{path}:{number}: {reason} {convert}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x})"
        raise ValueError(f"{path}:{number}: {reason}; if it is Latin-1: iconv -f LATIN1 {convert}") from None


def too_long_error(origin: str, max_bytes: int, what: str = "the document") -> str:
    """Error message for a document or line over the size limit, which keeps memory bounded."""
    return (
        f"{origin}: {what} is longer than {max_bytes:,} bytes; cut it up (TextFiles: separator=line), or raise "
        "max_document_bytes (JsonlPairs: max_line_bytes)"
    )


def read_jsonl(path: Path, max_bytes: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over the objects of a JSON lines file, each with its origin."""
    for number, line in read_lines(path, max_bytes):
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


def document_from_record(record: dict[str, Any], column: str, origin: str) -> Document:
    """Document in a column of a record; null gives an empty document."""
    if column not in record:
        raise ValueError(missing_column_error(column, list(record), origin))
    return document_from_value(record[column], column, origin)


def document_from_value(value: Any, column: str, origin: str) -> Document:
    """Document from a value, which must be valid Unicode text; null gives an empty document."""
    if value is None:
        return Document("", origin)
    if not isinstance(value, str):
        preview = repr(value)[:40]
        raise ValueError(f"{origin}: column {column!r} holds {preview} ({type(value).__name__}), text is needed")
    if "\0" in value:
        raise ValueError(f"{origin}: column {column!r} holds a NUL character, so it is not text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{origin}: column {column!r} has no UTF-8 form ({error.reason})") from None
    return Document(value, origin)


def missing_column_error(
    column: str, available: list[str], origin: str, kind: str = "column", hint: str = COLUMN_HINT
) -> str:
    """Error message for a missing column or field; lists the existing ones, most similar first."""
    near = get_close_matches(column, available, n=len(available) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in available if name not in near)]) or "none"
    return f"{origin}: no {kind} {column!r}; there are: {names}; {hint}"


def get_field(record: dict[str, Any], field: str, origin: str) -> Any:
    """Value of a field, or of a nested field by its dotted name; the error lists the existing fields."""
    if field in record:
        return record[field]
    value: Any = record
    for step in field.split("."):
        if not isinstance(value, dict) or step not in value:
            raise ValueError(missing_column_error(field, sorted(field_names(record)), origin, "field", FIELD_HINT))
        value = value[step]
    return value


def field_names(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of a record's fields."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from field_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
