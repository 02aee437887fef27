"""JSON lines and plain text lines of bounded length, and record fields by dotted names."""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textflow.data.base import Document


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
    if b"\0" in raw:
        raise ValueError(
            f"{path}:{number}: a NUL byte, so a binary file; if it is UTF-16 text: {iconv_command(path, 'UTF-16')}"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} of the line is 0x{raw[error.start]:02x}"
        raise ValueError(
            f"{path}:{number}: not UTF-8 ({found}); if it is Latin-1: {iconv_command(path, 'LATIN1')}"
        ) from None


def iconv_command(path: Path, encoding: str) -> str:
    """Shell command that converts the file to UTF-8."""
    return f"iconv -f {encoding} -t UTF-8 {path.name} > utf8_{path.name}"


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


def missing_column_error(column: str, available: list[str], origin: str) -> str:
    """Error message for a missing column; lists the existing columns, most similar first."""
    near = get_close_matches(column, available, n=len(available) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in available if name not in near)]) or "none"
    hint = "set the source's column; for --data.files F: --data.source TextFiles --data.source.paths F"
    return f"{origin}: no column {column!r}; there are: {names}; {hint} --data.source.column NAME"


def get_field(record: dict[str, Any], field: str, origin: str) -> Any:
    """Value of a field, or of a nested field by its dotted name; the error lists the existing fields."""
    if field in record:
        return record[field]
    value: Any = record
    for step in field.split("."):
        if not isinstance(value, dict) or step not in value:
            raise ValueError(missing_field_error(field, sorted(field_names(record)), origin))
        value = value[step]
    return value


def field_names(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of a record's fields."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from field_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def missing_field_error(field: str, available: list[str], origin: str) -> str:
    """Error message for a missing field; lists the existing fields, most similar first."""
    near = get_close_matches(field, available, n=len(available) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in available if name not in near)]) or "none"
    return (
        f"{origin}: no field {field!r}; there are: {names}; set the source's field with --data.source.source_field "
        "and the target's with --data.source.target_field"
    )
