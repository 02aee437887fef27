"""A table for the terminal: a perplexity never stands without entropy, repetition, number of samples and scorer."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

Record = dict[str, Any]
PROTOCOL = (
    *("scorer", "scorer_hash", "scorer_dtype", "scorer_tokenizer"),
    *("truncation", "counting", "weights", "aggregation", "entropy_ids", "length"),
)
COLUMNS = {
    "perplexity": "{:.1f}",
    "entropy": "{:.2f}",
    "seq_rep_4": "{:.2%}",
    "clean": "{:.0%}",
    "distinct_2": "{:.2f}",
    "diversity": "{:.2f}",
    "n": "{}",
    "empty": "{}",
    "tokens": "{}",
    "nfe": "{:g}",
    "seconds": "{:.1f}",
}
HEADS = {"seq_rep_4": "seq-rep-4", "distinct_2": "distinct-2", "nfe": "NFE"}


def name(record: Record) -> str:
    """What was measured: text, sampler and steps."""
    parts = [brief(record.get("escape")), (record.get("sampler") or {}).get("class", "")]
    words = [record["text"], *(part for part in parts if part != "Soft"), record.get("steps", "")]
    return " ".join(str(word) for word in words if word != "")


def brief(escape: Record | None) -> str:
    """An escape in a word: its class, and what it chooses by where that is not the likeliest token everywhere."""
    if not escape:
        return ""
    said = [escape.get("choice"), (escape.get("gate") or {}).get("class")]
    told = [word for word in said if word not in (None, "mode", "All")]
    return escape["class"] + (f"({', '.join(told)})" if told else "")


def warning(records: Sequence[Record]) -> str:
    """Names the protocol fields in which records differ; empty if they can be compared."""
    mixed = [key for key in PROTOCOL if len({str(record.get(key)) for record in records}) > 1]
    lines = [f"\nnot comparable: {', '.join(mixed)} differ between rows"] if mixed else []
    if any(record.get("apart") is False for record in records):
        lines.append(
            "\nthe scorer was not trained apart: give both recipes the same data, with data.held_apart above 0"
        )
    return "".join(lines)


def table(records: Sequence[Record]) -> Table:
    """Rows of records, their protocol below.

    Args:
        records: at least one.
    """
    first = records[0]
    caption = "; ".join(
        [
            f"scorer {first['scorer']} {first['scorer_hash']} {first['scorer_dtype']}",
            f"tokenizer {first['scorer_tokenizer']} ({first['scorer_vocab']}), at most {first['truncation']} tokens",
            f"weights {first['weights']}, {first['aggregation']}, seed {first['seed']}",
        ]
    )
    made = Table(caption=caption + warning(records), caption_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    made.add_column("text", no_wrap=True)
    for column in COLUMNS:
        made.add_column(HEADS.get(column, column), justify="right", overflow="fold")  # fold: nothing is cut away
    for record in records:
        cells = [None if record.get(key) is None else form.format(record[key]) for key, form in COLUMNS.items()]
        made.add_row(name(record), *(cell or "-" for cell in cells))
    return made
