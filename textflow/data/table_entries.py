"""Records of tables: CSV, TSV and Parquet."""

import csv
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import IO

from textflow.data.byte_stream import iconv_command
from textflow.data.lines import TextEntry
from textflow.data.records import missing_column_error


def read_table(file: IO[bytes], path: Path, max_bytes: int) -> Iterator[TextEntry]:
    """Iterate over the rows of a table, whose first line names the columns; commas, semicolons or tabs divide them."""
    csv.field_size_limit(max_bytes)
    blocks = iter(lambda: file.readline(max_bytes), b"")
    lines = (block.decode("utf-8", "surrogateescape") for block in blocks)
    first = next(lines, "")
    rows = csv.reader(chain([first], lines), delimiter=max(",;\t", key=first.count), strict=True)
    columns = next(rows, [])
    while True:
        origin = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield TextEntry(origin, None, f"not a row of a table ({error})")
            continue
        if row is None:
            return
        if row:
            yield row_entry(origin, columns, row, path)


def row_entry(origin: str, columns: list[str], row: list[str], path: Path) -> TextEntry:
    """Record of a row, by column."""
    if len(row) != len(columns):
        advice = "quote values that hold the separator"
        return TextEntry(origin, None, f"{len(row)} values for {len(columns)} columns; {advice}")
    try:
        "".join(row).encode("utf-8")
    except UnicodeEncodeError:
        return TextEntry(origin, None, f"not UTF-8; if it is Latin-1: {iconv_command('LATIN1', path)}")
    return TextEntry(origin, dict(zip(columns, row, strict=True)))


def read_parquet(path: Path, field: str | None) -> Iterator[TextEntry]:
    """Iterate over the rows of a Parquet file, with one field, which dots may nest, or all of them."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            names = [file.schema.column(i).path for i in range(len(file.schema))]
            if field is not None and not any(f"{name}.".startswith(f"{field}.") for name in names):
                raise ValueError(missing_column_error(field, names, str(path)))
            batches = file.iter_batches(batch_size=64, columns=None if field is None else [field])
            records = chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from (TextEntry(f"{path}:row {number}", record) for number, record in enumerate(records, 1))
    except (arrow.ArrowException, OSError) as error:  # a damaged file raises either
        if getattr(error, "errno", None):
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        raise ValueError(f"{path} is not a readable Parquet file: {' '.join(str(error).split())[:300]}") from None
