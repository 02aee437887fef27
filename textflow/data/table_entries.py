"""Records of tables: CSV, TSV and Parquet."""

import csv
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import IO

from textflow.data.byte_stream import iconv_command
from textflow.data.lines import LIMIT_HINT, TextEntry
from textflow.data.records import missing_column_error


def read_table(file: IO[bytes], path: Path, max_bytes: int) -> Iterator[TextEntry]:
    """Iterate over the rows of a table, whose first line names the columns; commas, semicolons or tabs divide them."""
    csv.field_size_limit(max_bytes)
    lines = TableLines(file, max_bytes)
    first = next(lines, "")
    rows = csv.reader(chain([first], lines), delimiter=max(",;\t", key=first.count), strict=True)
    columns = next(rows, [])
    while True:
        origin, lines.quotes = f"{path}:{lines.number + 1}", 0
        try:
            row = next(rows, None)
        except csv.Error as error:
            is_long = "field larger" in str(error)
            lines.skip_row(is_long)
            yield TextEntry(origin, None, f"not a row of a table ({error})" + (f"; {LIMIT_HINT}" if is_long else ""))
            continue
        if not lines.is_whole:
            lines.skip_row(False)
            yield TextEntry(origin, None, f"the line is longer than {max_bytes:,} bytes; {LIMIT_HINT}")
            continue
        if row is None:
            return
        if row:
            yield row_entry(origin, columns, row, path)


class TableLines(Iterator[str]):
    """Lines of a table, in blocks of bounded length.

    Args:
        file: the table.
        max_bytes: longest block, in bytes.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self.file, self.max_bytes = file, max_bytes
        self.number, self.quotes, self.is_whole = 0, 0, True  # lines read, quotes of the row, line read to its end

    def __next__(self) -> str:
        if not (block := self.file.readline(self.max_bytes + 2)):
            raise StopIteration
        self.number += self.is_whole
        self.quotes, self.is_whole = (
            self.quotes + block.count(b'"'),
            block.endswith(b"\n") or len(block) < self.max_bytes + 2,
        )
        return block.decode("utf-8", "surrogateescape")

    def skip_row(self, in_quotes: bool) -> None:
        """Skip the rest of a row: the end of its line, and the lines of a quoted value that is still open."""
        while not self.is_whole or (in_quotes and self.quotes % 2):
            if next(self, None) is None:
                return


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
