"""Fields of records that lie in one another, named by dotted ways."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any


def reached(record: dict[str, Any], field: str, origin: str) -> Any:
    """What stands in a field, or at the end of a dotted way; the error names what there is."""
    if field in record:
        return record[field]
    value: Any = record
    for step in field.split("."):
        if not isinstance(value, dict) or step not in value:
            raise ValueError(no_field(field, sorted(fields(record)), origin))
        value = value[step]
    return value


def fields(record: dict[str, Any], before: str = "") -> Iterator[str]:
    """The dotted names of a record's fields."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def no_field(field: str, there: list[str], origin: str) -> str:
    """The error for a missing field: those that exist, nearest first."""
    near = get_close_matches(field, there, n=len(there) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in there if name not in near)]) or "none"
    return (
        f"{origin}: no field {field!r}; there are: {names}; name the source's field with --data.source.given and the "
        "target's with --data.source.text"
    )
