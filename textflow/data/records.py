"""Documents from records: fields by dotted names, and values that are text."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from textflow.data.base import Document, bad_document

COLUMN_HINT = "set the source's column; for --data.files F: --data.source TextFiles --data.source.paths F "
COLUMN_HINT += "--data.source.column NAME"
FIELD_HINT = "set the source's field with --data.source.source_field and the target's with --data.source.target_field"


def document_from_record(record: dict[str, Any], column: str, origin: str) -> Document:
    """Document in a column of a record, or in a nested field by its dotted name; null gives an empty document."""
    try:
        return document_from_value(get_field(record, column, origin, "column", COLUMN_HINT), column, origin)
    except ValueError as error:
        return bad_document(str(error))


def document_from_value(value: Any, column: str, origin: str) -> Document:
    """Document from a value, which must be valid Unicode text; null gives an empty document."""
    if value is None:
        return Document("", origin)
    if not isinstance(value, str):
        preview = repr(value)[:40]
        return bad_document(f"{origin}: column {column!r} holds {preview} ({type(value).__name__}), text is needed")
    if "\0" in value:
        return bad_document(f"{origin}: column {column!r} holds a NUL character, so it is not text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return bad_document(f"{origin}: column {column!r} has no UTF-8 form ({error.reason})")
    return Document(value, origin)


def document_from_pair(record: dict[str, Any], source_field: str, target_field: str, origin: str) -> Document:
    """Document with the source and target of a record, which may be nested fields; null gives an empty text."""
    try:
        fields = [(name, get_field(record, name, origin)) for name in (source_field, target_field)]
    except ValueError as error:
        return bad_document(str(error))
    source, target = (document_from_value(value, name, origin) for name, value in fields)
    if bad := next((part for part in (source, target) if part.skip), None):
        return bad
    return Document(target.text, origin, source.text)


def missing_column_error(
    column: str, available: list[str], origin: str, kind: str = "column", hint: str = COLUMN_HINT
) -> str:
    """Error message for a missing column or field; lists the existing ones, most similar first."""
    near = get_close_matches(column, available, n=len(available) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in available if name not in near)]) or "none"
    return f"{origin}: no {kind} {column!r}; there are: {names}; {hint}"


def get_field(record: dict[str, Any], field: str, origin: str, kind: str = "field", hint: str = FIELD_HINT) -> Any:
    """Value of a field, or of a nested field by its dotted name; the error lists the existing fields."""
    if field in record:
        return record[field]
    value: Any = record
    for step in field.split("."):
        if not isinstance(value, dict) or step not in value:
            raise ValueError(missing_column_error(field, list(field_names(record)), origin, kind, hint))
        value = value[step]
    return value


def field_names(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of a record's fields."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from field_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
