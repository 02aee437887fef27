"""A table for the terminal: a perplexity never stands without entropy, repetition, number of samples and scorer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

Record = dict[str, Any]
PROTOCOL = (
    *("scorer_hash", "scorer_dtype", "scorer_tokenizer", "truncation", "counting", "weights", "scored_eos"),
    *("scored_first", "special_tokens", "aggregation", "entropy_ids", "length"),
)
ALWAYS = {
    "perplexity": "{:.1f}",
    "entropy": "{:.2f}",
    "excess": "{:.2f}",
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
SOMETIMES = {"memory": "{:.1%}", "mauve": "{:.3f}"}
HEADS = {
    **{"seq_rep_4": "seq-rep-4", "distinct_2": "distinct-2", "nfe": "NFE", "excess": "nll - H", "mauve": "MAUVE"},
    "memory": "seen 4-grams",
}
LOST = {
    "empty": "empty",
    "unscored": "without a token to score",
    "dropped": "in an incomplete last batch, dropped",
    "broken": "of a perplexity that is not finite, left out",
    "cut": "cut at the scorer's length",
}


class Cell(NamedTuple):
    """A number as it is shown, the ends of its 95% interval, and how far the farther end is."""

    value: str
    low: str = ""
    high: str = ""
    side: str = ""


def name(record: Record) -> str:
    """What was measured: run, text, sampler, steps and what a sweep set."""
    swept = [f"{key}={value:g}" for key, value in (record.get("sweep") or {}).items()]
    said = [record.get("label", ""), record["text"], *way(record, numbers=not swept)]
    return " ".join(str(word) for word in [*said, record.get("steps", ""), *swept] if word not in ("", None))


def way(record: Record, numbers: bool = True) -> list[str]:
    """How a text was sampled, in words: escape, sampler, a grid of its own; no word for an ODE that reads once.

    Args:
        record: of a text.
        numbers: whether to say what they are set to.
    """
    found = [brief(part, numbers) for part in (record.get("escape"), record.get("sampler")) if part]
    asked = ((record.get("recipe") or {}).get("model") or {}).get("init_args", {}).get("grid")
    grid = record.get("grid") if asked else None  # real text was walked along none
    return [word for word in found if word != "Soft"] + ([f"on {grid['class']}"] if grid else [])


def brief(part: Record, numbers: bool) -> str:
    """An escape or a sampler in a word: its class, what it chooses by where that is not the likeliest token
    everywhere, what it wraps, and the numbers that it is set to."""
    inner, told = part.get("escape"), [part.get("choice"), (part.get("gate") or {}).get("class")]
    said = [word for word in told if word not in (None, "mode", "All")]
    said += [f"{key} {value:g}" for key, value in part.items() if numbers and is_set(value)]
    said += [brief(inner, numbers)] if inner else []
    return part["class"] + (f"({', '.join(said)})" if said else "")


def is_set(value: Any) -> bool:
    """Whether a setting is a number that says something: 0 and 1 are a part at rest."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1)


def counted_by(record: Record) -> tuple[str, ...]:
    """What two records must share to be compared."""
    return tuple(str(record.get(key)) for key in PROTOCOL)


def marks(records: Sequence[Record]) -> list[str]:
    """A mark a record: letters for its protocol where there are several, a dagger where it deviates from its name."""
    protocols = list(dict.fromkeys(map(counted_by, records)))
    places = [protocols.index(counted_by(record)) for record in records]
    letters = [chr(ord("a") + i % 26) * (i // 26 + 1) if len(protocols) > 1 else "" for i in places]
    return [letter + ("†" if record.get("deviations") else "") for letter, record in zip(letters, records, strict=True)]


def protocol_of(record: Record) -> str:
    """The protocol of a record in a line."""
    if record["text"] == "published":
        return f"as published: {record['protocol']}"
    return "; ".join(
        [
            f"protocol {record.get('protocol') or record['counting']}",
            f"scorer {record['scorer']} {record['scorer_hash']} {record['scorer_dtype']}",
            f"tokenizer {record['scorer_tokenizer']} ({record['scorer_vocab']}), at most {record['truncation']} tokens",
            f"weights {record['weights']}, {record['aggregation']}, entropy over the {record['entropy_ids']}'s ids",
            *([f"length {record['length']}"] if record.get("length") else []),
        ]
    )


def notes(records: Sequence[Record]) -> list[str]:
    """All that a reader must know besides the numbers: protocols, deviations, samples that were lost."""
    found: dict[str, None] = {}
    for record, mark in zip(records, marks(records), strict=True):
        letter = mark.rstrip("†")
        found[(f"({letter}) " if letter else "") + protocol_of(record)] = None
    own = [record for record in records if record["text"] != "published"]
    if mixed := [key for key in PROTOCOL if len({str(record.get(key)) for record in own}) > 1]:
        found[f"not comparable: {', '.join(mixed)} differ between rows"] = None
    for sign, what in (("†", lambda record: record.get("deviations") or ()), ("!", lost)):
        for said in dict.fromkeys(word for record in records for word in what(record)):
            rows = [name(record) for record in records if said in what(record)]
            found[f"{sign} {'all rows' if len(rows) == len(records) else ', '.join(rows)}: {said}"] = None
    return [*found, *warnings(records)]


def lost(record: Record) -> list[str]:
    """The samples of a record that did not count as others do."""
    said = [f"{record[key]} of {record['n']} {why}" for key, why in LOST.items() if record.get(key)]
    where = record.get("unreadable_lines")
    return said + ([f"{record['unreadable']} unreadable lines: {'; '.join(where)}"] if where else [])


def warnings(records: Sequence[Record]) -> list[str]:
    """What makes numbers of a table hard to compare although their protocols agree."""
    found = []
    if len({record["n"] for record in records if record.get("distinct_2") is not None}) > 1:
        found.append("n differs between rows: distinct-2 falls with n")
    if any(record.get("apart") is False for record in records):
        found.append("the scorer was not trained apart: give both recipes the same data, with data.held_apart above 0")
    if recovery := next((record for record in records if record.get("recovery") is not None), None):
        found.append(f"the codec reads {recovery['recovery']:.2%} of the tokens of real text back")
    return found


def columns(records: Sequence[Record]) -> dict[str, str]:
    """Columns and how their numbers are written."""
    return ALWAYS | {key: form for key, form in SOMETIMES.items() if any(r.get(key) is not None for r in records)}


def cell(record: Record, key: str, form: str) -> Cell:
    """One number; a dash where there is none."""
    if record.get(key) is None:
        return Cell("-")
    low, high = (record.get("intervals") or {}).get(key, (None, None))
    value = record[key]
    if low is None or high is None or low == high:
        return Cell(form.format(value))
    return Cell(*map(form.format, (value, low, high, max(value - low, high - value))))


def table(records: Sequence[Record]) -> Table:
    """Rows of records, each number above the farther side of its 95% interval; protocols and marks below.

    Args:
        records: at least one.
    """
    shown = columns(records)
    seeds = sorted({record["seed"] for record in records if "seed" in record})
    said = [
        *notes(records),
        f"seed {', '.join(map(str, seeds))}; below each number the farther side of its 95% interval",
    ]
    made = Table(caption=Text("\n".join(said)), caption_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    made.add_column("text", no_wrap=True)
    for key in shown:
        made.add_column(HEADS.get(key, key), justify="right", overflow="fold")  # fold: nothing is cut away
    for record, mark in zip(records, marks(records), strict=True):
        cells = [cell(record, key, form) for key, form in shown.items()]
        made.add_row(Text(name(record) + (f" ({mark})" if mark else "")), *map(two_lines, cells))
    return made


def two_lines(cell: Cell) -> Text:
    """A number above the side of its interval."""
    return Text(cell.value).append(f"\n±{cell.side}" if cell.side else "", style="dim")
