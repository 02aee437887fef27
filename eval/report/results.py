"""Results section: a table for each protocol, and perplexity against entropy."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..table import COLUMN_TITLES, FormattedValue, format_cell, protocol_key, protocol_marks, table_columns, table_notes
from ..table import sampling_label as parts
from .axis import Axis, format_number
from .chart import Series, render_chart
from .copy import paragraph
from .folder import Record, RunReport
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection, ReportTable

INTERVAL_COLUMNS = ("perplexity", "entropy")  # shown with their intervals


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Tables and frontiers of all records; records of different protocols never share a table or figure."""
    made = ReportSection("results", "Results", [paragraph("results")])
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in runs:
        if not run.records and run.kind in ("continuous", "masked", "autoregressive"):
            made.missing.append(MissingResult(run.name, "no scored samples", f"textflow eval {run.folder}"))
        for record in run.records:
            groups[protocol_key(record)].append(record)
    for number, records in enumerate(groups.values(), 1):
        title = protocol_title(records[0], number if len(groups) > 1 else 0)
        made.figures += frontier_figures(title, records)
        made.tables.append(results_table(title, distinct_records(records)))
    if len(groups) > 1:
        made.notes.append(f"{len(groups)} protocols were used: numbers of different tables cannot be compared.")
    return made


def protocol_title(record: Record, number: int) -> str:
    """Name of a protocol, numbered if there are several."""
    name = f"protocol {record.get('protocol') or record.get('token_weighting')}"
    return f"{number}: {name}" if number else name


def distinct_records(records: list[Record]) -> list[Record]:
    """Records without duplicate real-text records of several runs."""
    keys, unique = set(), []
    for record in records:
        key = (record["text"], record.get("n"), record.get("seed"), record["perplexity"])
        if record["text"] == "generated" or key not in keys:
            unique.append(record)
        keys.add(key)
    return sorted(
        unique,
        key=lambda r: (r["text"] == "generated", r["run"], sampling_label(r), finite_number(r.get("steps")) or 0),
    )


def sampling_label(record: Record, numbers: bool = False) -> str:
    """Escape and sampler of a record."""
    return " ".join(parts(record, numbers)) or record["text"]


def results_table(title: str, records: list[Record]) -> ReportTable:
    """Table of the records of one protocol, with protocol, deviations and lost samples below."""
    columns, rows = table_columns(records), []
    for record, mark in zip(records, protocol_marks(records), strict=True):
        real, swept = record["text"] != "generated", sweep_label(record)
        row = ["" if real else record["run"], row_label(record), f"{record.get('steps', '')} {swept}".strip()]
        cells = [format_value(format_cell(record, key, form), key) for key, form in columns.items()]
        rows.append([*row, *cells, mark])
    names = [COLUMN_TITLES.get(key, key.replace("_", " ")) for key in columns]
    heads = ["run", "text", "steps", *names, "†" if any(protocol_marks(records)) else ""]
    seeds = ", ".join(sorted({str(record["seed"]) for record in records if "seed" in record}))
    return ReportTable(title, heads, rows, ". ".join([*table_notes(records), f"Seed {seeds}"]) + ".", 3)


def sweep_label(record: Record) -> str:
    """Swept settings of a record."""
    return ", ".join(f"{key} {value}" for key, value in (record.get("sweep") or {}).items())


def row_label(record: Record) -> str:
    """Label of a row."""
    names = {"real": "real text", "shuffled": "real words, shuffled"}
    return names.get(record["text"], sampling_label(record, numbers=not sweep_label(record)))


def format_value(shown: FormattedValue, key: str) -> str:
    """Number as text, with its interval for the main columns."""
    return f"{shown.value} [{shown.low}, {shown.high}]" if shown.low and key in INTERVAL_COLUMNS else shown.value


def frontier_figures(title: str, records: list[Record]) -> list[ReportFigure]:
    """Figure of perplexity against entropy, if there are points."""
    lines: list[Series] = []
    for name, part, labels in group_series(records):
        pairs = [(finite_number(record["entropy"]), finite_number(record["perplexity"])) for record in part]
        points = [(x, y, label) for (x, y), label in zip(pairs, labels, strict=True) if x is not None and y is not None]
        if points:
            tooltips = [f"{name} {label}: perplexity {format_number(y)}, entropy {x:.2f}" for x, y, label in points]
            at, point_labels = [(x, y) for x, y, _ in points], [label for *_, label in points]
            lines.append(Series(name, at, len(lines), tooltips, point_labels, connected=len(points) > 1))
    if not lines:
        return []
    svg = render_chart(
        f"{title}: perplexity against entropy", Axis("unigram entropy, nats"), Axis("perplexity", "log"), lines
    )
    return [ReportFigure(f"Perplexity against entropy ({title.lower()})", svg, paragraph("frontier"))]


def group_series(records: list[Record]) -> list[tuple[str, list[Record], list[str]]]:
    """Groups of records joined by a line, with labels: along steps, or along a sweep at fixed steps."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in distinct_records(records):
        generated = record["text"] == "generated"
        groups[f"{record['run']}: {sampling_label(record)}" if generated else row_label(record)].append(record)
    found = []
    for name, part in groups.items():
        steps = [record.get("steps") for record in part]
        if len(set(map(str, steps))) == len(part):
            found.append((name, part, ["" if count is None else str(count) for count in steps]))
            continue
        for count in dict.fromkeys(steps):
            own = [record for record in part if record.get("steps") == count]
            swept = sorted(own, key=lambda record: [value for _, value in sampling_settings(record)])
            found.append(
                (
                    f"{name}, {count} steps",
                    swept,
                    [sweep_label(record) or varying_settings(record, own) for record in swept],
                )
            )
    return found


def sampling_settings(record: Record) -> list[tuple[str, float]]:
    """Numeric settings of sampler, escape and guidance."""
    parts = {**(record.get("escape") or {}), **(record.get("sampler") or {}), "w": record.get("self_cond_guidance")}
    numbers: dict[str, Any] = {key: finite_number(value) for key, value in parts.items()}
    return sorted((key, value) for key, value in numbers.items() if value is not None)


def varying_settings(record: Record, others: list[Record]) -> str:
    """Settings in which a record differs from the others."""
    held = [dict(sampling_settings(other)) for other in others]
    own = dict(sampling_settings(record))
    return ", ".join(f"{key} {own[key]:g}" for key in own if len({each.get(key) for each in held}) > 1)
