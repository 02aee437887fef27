"""Terminal table that always shows perplexity with entropy, repetition, number of samples and scorer."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .record import STORY_KEYS

Record = dict[str, Any]
PROTOCOL_KEYS = (
    *("scorer_hash", "scorer_dtype", "scorer_tokenizer", "truncation", "token_weighting", "weights", "scored_eos"),
    *("scored_first", "special_tokens", "aggregation", "entropy_ids", "seq_length"),
)
COLUMNS = {
    **{"perplexity": "{:.1f}", "bits_per_character": "{:.2f}", "entropy": "{:.2f}", "nll_minus_entropy": "{:.2f}"},
    **{"seq_rep_4": "{:.2%}", "human_repetition_share": "{:.0%}", "distinct_2": "{:.2f}", "diversity": "{:.2f}"},
    **{"n": "{}", "empty": "{}", "tokens": "{}", "nfe": "{:g}", "seconds": "{:.1f}"},
}
OPTIONAL_COLUMNS = {"memorized_4grams": "{:.1%}", "mauve": "{:.3f}"}
STORY_COLUMNS = (
    dict.fromkeys(STORY_KEYS[:3], "{:.1%}") | dict.fromkeys(STORY_KEYS[3:-1], "{:.0%}") | {STORY_KEYS[-1]: "{:.2f}"}
)
STORY_TABLE_COLUMNS = ("entropy", "seq_rep_4", "distinct_2", "n", "nfe")  # a perplexity of valid texts says little
COLUMN_TITLES = {
    **{"seq_rep_4": "seq-rep-4", "distinct_2": "distinct-2", "nfe": "NFE", "nll_minus_entropy": "nll - H"},
    **{"mauve": "MAUVE", "memorized_4grams": "seen 4-grams", "bits_per_character": "bits/char"},
    **{key: key.removeprefix("stories/").replace("_", " ") for key in STORY_KEYS},
}
LOST_REASONS = {
    "empty": "empty",
    "unscored": "without a token to score",
    "dropped": "in an incomplete last batch, dropped",
    "nonfinite": "of a perplexity that is not finite, left out",
    "truncated": "cut at the scorer's length",
}


class FormattedValue(NamedTuple):
    """Formatted number, the ends of its 95% interval, and the distance to the farther end."""

    value: str
    low: str = ""
    high: str = ""
    half_width: str = ""


def row_label(record: Record) -> str:
    """Row label: run, text, sampler, steps and swept settings."""
    swept = [f"{key}={value:g}" for key, value in (record.get("sweep") or {}).items()]
    parts = [record.get("label", ""), record["text"], *sampling_label(record, with_settings=not swept)]
    return " ".join(str(part) for part in [*parts, record.get("steps", ""), *swept] if part not in ("", None))


def sampling_label(record: Record, with_settings: bool = True) -> list[str]:
    """Sampling labels of a text: order unless all at once, escape, sampler, its own grid; none for an ODE with a single
    readout.

    Args:
        record: evaluation record.
        with_settings: include the numeric settings.
    """
    labels = [part_label(part, with_settings) for part in map(record.get, ("order", "escape", "sampler")) if part]
    schedule = ((record.get("recipe") or {}).get("model") or {}).get("init_args", {}).get("sampling_schedule")
    grid = record.get("time_grid") if schedule else None  # real text has no time grid
    return [label for label in labels if label != "NoEscape"] + ([f"on {grid['class']}"] if grid else [])


def part_label(part: Record, with_settings: bool) -> str:
    """Label of an order, an escape or a sampler: its class, its selection rule where it is not the most likely token
    everywhere, its number of groups, its numeric settings and the wrapped part."""
    inner, settings = part.get("escape"), [part.get("choice"), (part.get("gate") or {}).get("class")]
    parts = [value for value in settings if value not in (None, "mode", "Everywhere")]
    parts += [f"{max(groups) + 1} groups"] if (groups := part.get("groups")) else []
    parts += [f"{key} {value:g}" for key, value in part.items() if with_settings and is_nontrivial(value)]
    parts += [part_label(inner, with_settings)] if inner else []
    return part["class"] + (f"({', '.join(parts)})" if parts else "")


def is_nontrivial(value: Any) -> bool:
    """True if a setting is a number other than the neutral values 0 and 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1)


def protocol_key(record: Record) -> tuple[str, ...]:
    """Key that two comparable records share."""
    return tuple(str(record.get(key)) for key in PROTOCOL_KEYS)


def protocol_marks(records: Sequence[Record]) -> list[str]:
    """Marks of records: letters if there are several protocols, a dagger for deviations from the named protocol."""
    protocols = list(dict.fromkeys(map(protocol_key, records)))
    indices = [protocols.index(protocol_key(record)) for record in records]
    letters = [chr(ord("a") + i % 26) * (i // 26 + 1) if len(protocols) > 1 else "" for i in indices]
    return [letter + ("†" if record.get("deviations") else "") for letter, record in zip(letters, records, strict=True)]


def protocol_line(record: Record) -> str:
    """One-line summary of a record's protocol."""
    if record["text"] == "published":
        return f"as published: {record['protocol']}"
    return "; ".join(
        [
            f"protocol {record.get('protocol') or record['token_weighting']}",
            f"scorer {record['scorer']} {record['scorer_hash']} {record['scorer_dtype']}",
            f"tokenizer {record['scorer_tokenizer']} ({record['scorer_vocab']}), at most {record['truncation']} tokens",
            f"weights {record['weights']}, {record['aggregation']}, entropy over the {record['entropy_ids']}'s ids",
            *([f"seq_length {record['seq_length']}"] if record.get("seq_length") else []),
        ]
    )


def table_notes(records: Sequence[Record]) -> list[str]:
    """Notes below a table: protocols, deviations, lost samples."""
    notes: dict[str, None] = {}
    for record, mark in zip(records, protocol_marks(records), strict=True):
        letter = mark.rstrip("†")
        notes[(f"({letter}) " if letter else "") + protocol_line(record)] = None
    own = [record for record in records if record["text"] != "published"]
    if mixed := [key for key in PROTOCOL_KEYS if len({str(record.get(key)) for record in own}) > 1]:
        notes[f"not comparable: {', '.join(mixed)} differ between rows"] = None
    for sign, row_notes in (("†", lambda record: record.get("deviations") or ()), ("!", lost_samples)):
        for note in dict.fromkeys(chain.from_iterable(map(row_notes, records))):
            rows = [row_label(record) for record in records if note in row_notes(record)]
            notes[f"{sign} {'all rows' if len(rows) == len(records) else ', '.join(rows)}: {note}"] = None
    return [*notes, *comparison_warnings(records)]


def lost_samples(record: Record) -> list[str]:
    """Counts of samples that were not scored normally; stories that are not valid are counted in their columns."""
    lost = [key for key in LOST_REASONS if record.get(key) and (key != "nonfinite" or STORY_KEYS[0] not in record)]
    counts = [f"{record[key]} of {record['n']} {LOST_REASONS[key]}" for key in lost]
    lines = record.get("unreadable_lines")
    return counts + ([f"{record['unreadable']} unreadable lines: {'; '.join(lines)}"] if lines else [])


def comparison_warnings(records: Sequence[Record]) -> list[str]:
    """Warnings on numbers that are hard to compare although their protocols agree."""
    warnings = []
    if len({record["n"] for record in records if record.get("distinct_2") is not None}) > 1:
        warnings.append("n differs between rows: distinct-2 falls with n")
    if any(record.get("scorer_is_disjoint") is False for record in records):
        warnings.append(
            "the scorer's training documents are not disjoint from the generator's: give both recipes the same data,"
            " with data.scorer_holdout above 0"
        )
    if any(record.get("shuffled_units") == "characters" for record in records):
        warnings.append("the text has no words between spaces: the row `shuffled` has its characters in random order")
    if recovery := next((record for record in records if record.get("recovery") is not None), None):
        warnings.append(f"the codec reads {recovery['recovery']:.2%} of the tokens of real text back")
    return warnings


def table_columns(records: Sequence[Record]) -> dict[str, str]:
    """Columns with their number formats; records of protocol stories alone have their own."""
    stories, optional = (
        {key: form for key, form in columns.items() if any(record.get(key) is not None for record in records)}
        for columns in (STORY_COLUMNS, OPTIONAL_COLUMNS)
    )
    if all(STORY_KEYS[0] in record for record in records):
        return stories | {key: COLUMNS[key] for key in STORY_TABLE_COLUMNS} | optional
    return COLUMNS | optional | stories


def frontier_key(record: Record) -> str:
    """Number that is drawn against entropy: the share of valid stories, else the perplexity."""
    return STORY_KEYS[0] if STORY_KEYS[0] in record else "perplexity"


def format_cell(record: Record, key: str, format_spec: str) -> FormattedValue:
    """Format one number; a dash if it is missing."""
    if record.get(key) is None:
        return FormattedValue("-")
    low, high = (record.get("intervals") or {}).get(key, (None, None))
    value = record[key]
    if low is None or high is None or low == high:
        return FormattedValue(format_spec.format(value))
    return FormattedValue(*map(format_spec.format, (value, low, high, max(value - low, high - value))))


def make_table(records: Sequence[Record]) -> Table:
    """Table of records, each number above the farther side of its 95% interval; protocols and marks below."""
    columns = table_columns(records)
    seeds = ", ".join(map(str, sorted({record["seed"] for record in records if "seed" in record})))
    below = "below each number the farther side of its 95% interval"
    notes = [*table_notes(records), f"seed {seeds}; {below}" if seeds else below]
    table = Table(caption=Text("\n".join(notes)), caption_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("text", no_wrap=True)
    for key in columns:
        table.add_column(COLUMN_TITLES.get(key, key), justify="right", overflow="fold")  # fold: avoids truncation
    for record, mark in zip(records, protocol_marks(records), strict=True):
        cells = [format_cell(record, key, form) for key, form in columns.items()]
        table.add_row(Text(row_label(record) + (f" ({mark})" if mark else "")), *map(value_with_interval, cells))
    return table


def value_with_interval(cell: FormattedValue) -> Text:
    """Number above the half-width of its interval."""
    return Text(cell.value).append(f"\n±{cell.half_width}" if cell.half_width else "", style="dim")
