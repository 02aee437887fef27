"""Entries of a text file in any format: lines of plain text, or records of JSON lines, a JSON array or a table.

Training, evaluation and prompts read files here. The content decides the format. The name decides what the content
does not show: a table, and text that is meant as JSON or Parquet.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from textflow.data.byte_stream import data_suffix, open_text
from textflow.data.json_entries import parse_json, read_array
from textflow.data.lines import LIMIT_HINT, TextEntry, fold_advice, read_lines
from textflow.data.table_entries import read_parquet, read_table

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = (".csv", ".tsv")
PARQUET_MAGIC = b"PAR1"
ARRAY_OF_OBJECTS, ARRAY_OF_STRINGS = re.compile(rb"\s*\[\s*\{"), re.compile(rb'\s*\[\s*"')
OBJECT = re.compile(rb'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')
PRINTED = b"[0] "  # begins the output of `textflow sample` on a terminal and the files of RUN/samples
FIRST_LINES = 5  # lines that are not blank, of which one shows that the lines are JSON if the first is torn
MAX_TEXT_BYTES = 1 << 30  # longest line or record of a file of texts to score or of prompts


def read_entries(path: Path, max_bytes: int = MAX_TEXT_BYTES, field: str | None = None) -> Iterator[TextEntry]:
    """Iterate over the lines or records of a file; one that cannot be read is an entry with its error.

    Args:
        path: UTF-8 text, JSON lines, a JSON array, CSV, TSV or Parquet; text may be compressed (.gz, .bz2, .xz, .zst).
        max_bytes: longest line or record in bytes, so that memory stays bounded.
        field: field that Parquet files are read for; default: all fields.

    Raises:
        ValueError: if the file cannot be read at all.
    """
    if is_parquet(path):
        yield from read_parquet(path, field)
        return
    with open_text(path) as (file, head):
        kind = content_kind(path, head)
        if kind == "table":
            yield from read_table(file, path, max_bytes)
        elif kind == "array":
            yield from read_array(file, path, max_bytes)
        elif kind == "json":
            lines = read_lines(file, path, max_bytes, LIMIT_HINT)
            yield from (parse_json(line) for line in lines if line.error or line.value.strip())
        elif head.startswith(PRINTED):
            printed = "what `textflow sample` prints, or a file of RUN/samples, with numbers that are not text"
            raise ValueError(f"{path} is {printed}: write the texts with --out FILE.jsonl, and give that file")
        else:
            yield from read_lines(file, path, max_bytes, fold_advice(path))


def is_parquet(path: Path) -> bool:
    """True for a file that is named or begins as Parquet."""
    if data_suffix(path) == ".parquet" or not path.is_file():
        return data_suffix(path) == ".parquet"
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def content_kind(path: Path, head: bytes) -> str:
    """Format of a text file by its name and first bytes: table, array, json (lines) or text."""
    suffix = data_suffix(path)
    if suffix in TABLE_SUFFIXES:
        return "table"
    is_named = suffix in JSON_SUFFIXES
    if ARRAY_OF_OBJECTS.match(head) or (is_named and ARRAY_OF_STRINGS.match(head)):
        return "array"
    return "json" if is_named or begins_with_objects(head) else "text"


def begins_with_objects(head: bytes) -> bool:
    """True if the first line that is not blank is a JSON object, the beginning of a long one, or a torn one before
    others."""
    lines = [line.strip() for line in head.splitlines() if line.strip()][:FIRST_LINES]
    if not lines or is_object(lines[0]):
        return bool(lines)
    if len(lines) == 1 and b"\n" not in head.lstrip():
        return OBJECT.match(lines[0]) is not None
    return (lines[0].startswith(b"{") or lines[0].endswith(b"}")) and any(map(is_object, lines[1:]))


def is_object(line: bytes) -> bool:
    """True for a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
