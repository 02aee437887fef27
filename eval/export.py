"""Records as CSV, Markdown and LaTeX: the table of the terminal, its marks and notes included."""

import csv
import io
import re
from collections.abc import Callable, Sequence

from .record import COUNTS, MEASURED, Record
from .table import HEADS, PROTOCOL, Cell, cell, columns, marks, name, notes

SAID = ("text", "label", "sweep", "steps", "seed", "protocol", "deviations", "n", "checkpoint", "checkpoint_hash")
SPECIAL = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"\textdagger{}"},
}


def as_csv(records: Sequence[Record]) -> str:
    """A line a record: what it says of its protocol, then each number with the ends of its 95% interval.

    Args:
        records: at least one.
    """
    measured = [key for key in MEASURED if key not in (*COUNTS, "intervals") and any(r.get(key) for r in records)]
    ends = [f"{key}_{end}" for key in measured for end in ("low", "high")]
    said = list(dict.fromkeys([*SAID, "scorer", *PROTOCOL, *COUNTS]))
    file = io.StringIO()
    rows = csv.DictWriter(file, ["mark", *said, *measured, *ends], extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for record, mark in zip(records, marks(records), strict=True):
        spans = {key: (record.get("intervals") or {}).get(key, (None, None)) for key in measured}
        low_high = {f"{key}_{end}": span[i] for key, span in spans.items() for i, end in enumerate(("low", "high"))}
        rows.writerow({**record, **low_high, "mark": mark, "deviations": "; ".join(record.get("deviations", ()))})
    return file.getvalue()


def as_markdown(records: Sequence[Record]) -> str:
    """A table of GitHub's Markdown, its notes below.

    Args:
        records: at least one.
    """
    shown = columns(records)
    heads = ["text", *(HEADS.get(key, key) for key in shown)]
    lines = [heads, ["---", *["--:"] * len(shown)], *body(records, lambda one: f"{one.value} ({one.low}-{one.high})")]
    table = [f"| {' | '.join(word.replace('|', chr(92) + '|') for word in line)} |" for line in lines]
    return "\n".join([*table, "", *(f"- {note}" for note in notes(records))]) + "\n"


def as_latex(records: Sequence[Record]) -> str:
    """A tabular of LaTeX (booktabs), its notes below.

    Args:
        records: at least one.
    """
    shown = columns(records)
    heads = ["text", *(HEADS.get(key, key) for key in shown)]
    lines = body(records, lambda one: f"{one.value} ({one.low}--{one.high})")
    rows = [" & ".join(escaped(word) for word in line) + r" \\" for line in lines]
    top = [rf"\begin{{tabular}}{{l{'r' * len(shown)}}}", r"\toprule", " & ".join(map(escaped, heads)) + r" \\"]
    below = [rf"\par {{\footnotesize {escaped(note)}}}" for note in notes(records)]
    return "\n".join([*top, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", *below]) + "\n"


def body(records: Sequence[Record], whole: Callable[[Cell], str]) -> list[list[str]]:
    """Words of each row.

    Args:
        records: of the table.
        whole: writes a number that has an interval.
    """
    shown = columns(records)
    found = []
    for record, mark in zip(records, marks(records), strict=True):
        cells = [cell(record, key, form) for key, form in shown.items()]
        first = name(record) + (f" ({mark})" if mark else "")
        found.append([first, *(whole(one) if one.low else one.value for one in cells)])
    return found


def escaped(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return re.sub(r"[&%$#_{}\\~^†]", lambda sign: SPECIAL[sign[0]], text)


FORMATS: dict[str, Callable[[Sequence[Record]], str]] = {"csv": as_csv, "markdown": as_markdown, "latex": as_latex}
