"""Export of records as CSV, Markdown and LaTeX, with the marks and notes of the terminal table."""

import csv
import io
import re
from collections.abc import Callable, Sequence

from .record import COUNT_KEYS, RESULT_KEYS, Record
from .table import COLUMN_TITLES, PROTOCOL_KEYS, format_cell, protocol_marks, row_label, table_columns, table_notes

CSV_COLUMNS = (
    *("text", "label", "sweep", "steps", "seed", "protocol", "deviations", "n", "checkpoint", "checkpoint_hash"),
)
LATEX_ESCAPES = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"\textdagger{}"},
}


def to_csv(records: Sequence[Record]) -> str:
    """CSV with a line per record: protocol fields, then each number with the ends of its 95% interval."""
    numbers = [key for key in RESULT_KEYS if key not in (*COUNT_KEYS, "intervals") and any(r.get(key) for r in records)]
    ends = [f"{key}_{end}" for key in numbers for end in ("low", "high")]
    units = ["shuffled_units"] if any("shuffled_units" in record for record in records) else []
    fields = list(dict.fromkeys([*CSV_COLUMNS, *units, "scorer", *PROTOCOL_KEYS, *COUNT_KEYS]))
    file = io.StringIO()
    rows = csv.DictWriter(file, ["mark", *fields, *numbers, *ends], extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for record, mark in zip(records, protocol_marks(records), strict=True):
        spans = {key: (record.get("intervals") or {}).get(key, (None, None)) for key in numbers}
        low_high = {f"{key}_{end}": span[i] for key, span in spans.items() for i, end in enumerate(("low", "high"))}
        rows.writerow({**record, **low_high, "mark": mark, "deviations": "; ".join(record.get("deviations", ()))})
    return file.getvalue()


def to_markdown(records: Sequence[Record]) -> str:
    """GitHub Markdown table with notes below."""
    heads, *rows = table_cells(records, "-")
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    table = [f"| {' | '.join(word.replace('|', chr(92) + '|') for word in line)} |" for line in lines]
    return "\n".join([*table, "", *(f"- {note}" for note in table_notes(records))]) + "\n"


def to_latex(records: Sequence[Record]) -> str:
    """LaTeX tabular (booktabs) with notes below."""
    cells = table_cells(records, "--")
    heads, *rows = (" & ".join(map(escape_latex, line)) + r" \\" for line in cells)
    top = [rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}", r"\toprule", heads]
    below = [rf"\par {{\footnotesize {escape_latex(note)}}}" for note in table_notes(records)]
    return "\n".join([*top, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", *below]) + "\n"


def table_cells(records: Sequence[Record], dash: str) -> list[list[str]]:
    """Headings, then the cell texts of each row, with a dash between the ends of an interval."""
    columns = table_columns(records)
    rows = [["text", *(COLUMN_TITLES.get(key, key) for key in columns)]]
    for record, mark in zip(records, protocol_marks(records), strict=True):
        cells = (format_cell(record, key, form) for key, form in columns.items())
        label = row_label(record) + (f" ({mark})" if mark else "")
        rows.append([label, *(f"{c.value} ({c.low}{dash}{c.high})" if c.low else c.value for c in cells)])
    return rows


def escape_latex(text: str) -> str:
    """Text with LaTeX special characters escaped."""
    return re.sub(r"[&%$#_{}\\~^†]", lambda sign: LATEX_ESCAPES[sign[0]], text)


FORMATS: dict[str, Callable[[Sequence[Record]], str]] = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}
