"""Export of records as CSV, Markdown and LaTeX, with the marks and notes of the terminal table."""

import csv
import io
import re
from collections.abc import Callable, Sequence

from .record import COUNT_KEYS, RESULT_KEYS, Record
from .table import (
    COLUMN_TITLES,
    PROTOCOL_KEYS,
    FormattedValue,
    format_cell,
    protocol_marks,
    row_label,
    table_columns,
    table_notes,
)

CSV_COLUMNS = (
    "text",
    "label",
    "sweep",
    "steps",
    "seed",
    "protocol",
    "deviations",
    "n",
    "checkpoint",
    "checkpoint_hash",
)
LATEX_ESCAPES = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"\textdagger{}"},
}


def to_csv(records: Sequence[Record]) -> str:
    """CSV with a line per record: protocol fields, then each number with the ends of its 95% interval.

    Args:
        records: records of the table, at least one.
    """
    measured = [
        key for key in RESULT_KEYS if key not in (*COUNT_KEYS, "intervals") and any(r.get(key) for r in records)
    ]
    ends = [f"{key}_{end}" for key in measured for end in ("low", "high")]
    fields = list(dict.fromkeys([*CSV_COLUMNS, "scorer", *PROTOCOL_KEYS, *COUNT_KEYS]))
    file = io.StringIO()
    rows = csv.DictWriter(file, ["mark", *fields, *measured, *ends], extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for record, mark in zip(records, protocol_marks(records), strict=True):
        spans = {key: (record.get("intervals") or {}).get(key, (None, None)) for key in measured}
        low_high = {f"{key}_{end}": span[i] for key, span in spans.items() for i, end in enumerate(("low", "high"))}
        rows.writerow({**record, **low_high, "mark": mark, "deviations": "; ".join(record.get("deviations", ()))})
    return file.getvalue()


def to_markdown(records: Sequence[Record]) -> str:
    """GitHub Markdown table with notes below.

    Args:
        records: records of the table, at least one.
    """
    columns = table_columns(records)
    heads = ["text", *(COLUMN_TITLES.get(key, key) for key in columns)]
    lines = [
        heads,
        ["---", *["--:"] * len(columns)],
        *table_rows(records, lambda one: f"{one.value} ({one.low}-{one.high})"),
    ]
    table = [f"| {' | '.join(word.replace('|', chr(92) + '|') for word in line)} |" for line in lines]
    return "\n".join([*table, "", *(f"- {note}" for note in table_notes(records))]) + "\n"


def to_latex(records: Sequence[Record]) -> str:
    """LaTeX tabular (booktabs) with notes below.

    Args:
        records: records of the table, at least one.
    """
    columns = table_columns(records)
    heads = ["text", *(COLUMN_TITLES.get(key, key) for key in columns)]
    lines = table_rows(records, lambda one: f"{one.value} ({one.low}--{one.high})")
    rows = [" & ".join(escape_latex(word) for word in line) + r" \\" for line in lines]
    top = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", " & ".join(map(escape_latex, heads)) + r" \\"]
    below = [rf"\par {{\footnotesize {escape_latex(note)}}}" for note in table_notes(records)]
    return "\n".join([*top, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", *below]) + "\n"


def table_rows(records: Sequence[Record], format_interval: Callable[[FormattedValue], str]) -> list[list[str]]:
    """Cell texts of each row.

    Args:
        records: records of the table.
        format_interval: formats a number with its interval.
    """
    columns = table_columns(records)
    rows = []
    for record, mark in zip(records, protocol_marks(records), strict=True):
        cells = [format_cell(record, key, form) for key, form in columns.items()]
        first = row_label(record) + (f" ({mark})" if mark else "")
        rows.append([first, *(format_interval(one) if one.low else one.value for one in cells)])
    return rows


def escape_latex(text: str) -> str:
    """Text with LaTeX special characters escaped."""
    return re.sub(r"[&%$#_{}\\~^†]", lambda sign: LATEX_ESCAPES[sign[0]], text)


FORMATS: dict[str, Callable[[Sequence[Record]], str]] = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}
