"""The results: a table for each protocol, and perplexity against entropy."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..table import HEADS, Cell, cell, columns, counted_by, marks, notes
from ..table import way as parts
from .axis import Axis, short
from .chart import Line, chart
from .copy import prose
from .folder import Record, Run
from .numbers import number_of
from .section import Missing, Picture, Section, Table

SHOWN = ("perplexity", "entropy")  # with their intervals


def section(runs: Sequence[Run]) -> Section:
    """Tables and frontiers of all records; records of different protocols never share a table or a picture."""
    made = Section("results", "Results", [prose("results")])
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in runs:
        if not run.records and run.kind in ("continuous", "masked", "autoregressive"):
            made.missing.append(Missing(run.name, "no scored samples", f"textflow eval {run.folder}"))
        for record in run.records:
            groups[counted_by(record)].append(record)
    for number, records in enumerate(groups.values(), 1):
        title = titled(records[0], number if len(groups) > 1 else 0)
        made.pictures += frontier(title, records)
        made.tables.append(table(title, distinct(records)))
    if len(groups) > 1:
        made.notes.append(f"{len(groups)} protocols were used: numbers of different tables cannot be compared.")
    return made


def titled(record: Record, number: int) -> str:
    """A name for a protocol, with its number where there are several."""
    name = f"protocol {record.get('protocol') or record.get('counting')}"
    return f"{number}: {name}" if number else name


def distinct(records: list[Record]) -> list[Record]:
    """The records without those of real text that another run has measured alike."""
    seen, kept = set(), []
    for record in records:
        key = (record["text"], record.get("n"), record.get("seed"), record["perplexity"])
        if record["text"] == "generated" or key not in seen:
            kept.append(record)
        seen.add(key)
    return sorted(kept, key=lambda r: (r["text"] == "generated", r["run"], way(r), number_of(r.get("steps")) or 0))


def way(record: Record, numbers: bool = False) -> str:
    """How a record was sampled, in words: escape, sampler."""
    return " ".join(parts(record, numbers)) or record["text"]


def table(title: str, records: list[Record]) -> Table:
    """Rows of records of one protocol; protocol, deviations and lost samples below."""
    shown, rows = columns(records), []
    for record, mark in zip(records, marks(records), strict=True):
        real, swept = record["text"] != "generated", sweep(record)
        named = ["" if real else record["run"], said_of(record), f"{record.get('steps', '')} {swept}".strip()]
        cells = [whole(cell(record, key, form), key) for key, form in shown.items()]
        rows.append([*named, *cells, mark])
    names = [HEADS.get(key, key.replace("_", " ")) for key in shown]
    heads = ["run", "text", "steps", *names, "†" if any(marks(records)) else ""]
    seeds = ", ".join(sorted({str(record["seed"]) for record in records if "seed" in record}))
    return Table(title, heads, rows, ". ".join([*notes(records), f"Seed {seeds}"]) + ".", 3)


def sweep(record: Record) -> str:
    """What a frontier set."""
    return ", ".join(f"{key} {value}" for key, value in (record.get("sweep") or {}).items())


def said_of(record: Record) -> str:
    """What a row is of."""
    names = {"real": "real text", "shuffled": "real words, shuffled"}
    return names.get(record["text"], way(record, numbers=not sweep(record)))


def whole(shown: Cell, key: str) -> str:
    """A number, with its interval for those that are read first."""
    return f"{shown.value} [{shown.low}, {shown.high}]" if shown.low and key in SHOWN else shown.value


def frontier(title: str, records: list[Record]) -> list[Picture]:
    """Perplexity against entropy, if there is any."""
    lines: list[Line] = []
    for name, part, labels in series(records):
        pairs = [(number_of(record["entropy"]), number_of(record["perplexity"])) for record in part]
        kept = [(x, y, label) for (x, y), label in zip(pairs, labels, strict=True) if x is not None and y is not None]
        if kept:
            told = [f"{name} {label}: perplexity {short(y)}, entropy {x:.2f}" for x, y, label in kept]
            at, beside = [(x, y) for x, y, _ in kept], [label for *_, label in kept]
            lines.append(Line(name, at, len(lines), told, beside, joined=len(kept) > 1))
    if not lines:
        return []
    svg = chart(f"{title}: perplexity against entropy", Axis("unigram entropy, nats"), Axis("perplexity", "log"), lines)
    return [Picture(f"Perplexity against entropy ({title.lower()})", svg, prose("frontier"))]


def series(records: list[Record]) -> list[tuple[str, list[Record], list[str]]]:
    """Records that one line joins, with a label for each: along steps, or along what was swept at fixed steps."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in distinct(records):
        generated = record["text"] == "generated"
        groups[f"{record['run']}: {way(record)}" if generated else said_of(record)].append(record)
    found = []
    for name, part in groups.items():
        steps = [record.get("steps") for record in part]
        if len(set(map(str, steps))) == len(part):
            found.append((name, part, ["" if count is None else str(count) for count in steps]))
            continue
        for count in dict.fromkeys(steps):
            own = [record for record in part if record.get("steps") == count]
            swept = sorted(own, key=lambda record: [value for _, value in settings(record)])
            found.append((f"{name}, {count} steps", swept, [sweep(record) or varied(record, own) for record in swept]))
    return found


def settings(record: Record) -> list[tuple[str, float]]:
    """The numbers that a sampler, an escape and guidance are set to."""
    parts = {**(record.get("escape") or {}), **(record.get("sampler") or {}), "w": record.get("guidance")}
    numbers: dict[str, Any] = {key: number_of(value) for key, value in parts.items()}
    return sorted((key, value) for key, value in numbers.items() if value is not None)


def varied(record: Record, others: list[Record]) -> str:
    """The settings in which a record differs from its neighbours."""
    held = [dict(settings(other)) for other in others]
    own = dict(settings(record))
    return ", ".join(f"{key} {own[key]:g}" for key in own if len({each.get(key) for each in held}) > 1)
