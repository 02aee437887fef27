"""Results section: a table for each protocol, and perplexity against entropy."""

from collections import defaultdict
from collections.abc import Sequence
from shlex import quote

from .. import table
from .axis import Axis, format_number
from .chart import Series, render_chart
from .folder import Record, RunReport
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection, ReportTable, paragraph

INTERVAL_COLUMNS = ("perplexity", "entropy", "stories/valid", "stories/bound")  # shown with their intervals


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Tables and frontiers of all records; records of different protocols never share a table or figure."""
    section = ReportSection("results", "Results", [paragraph("results")])
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in runs:
        if not run.records and run.kind in ("continuous", "masked", "autoregressive"):
            section.missing.append(
                MissingResult(run.name, "no scored samples", f"textflow eval {quote(str(run.folder))}")
            )
        for record in run.records:
            groups[table.protocol_key(record)].append(record)
    for number, records in enumerate(groups.values(), 1):
        name = f"protocol {records[0].get('protocol') or records[0].get('token_weighting')}"
        title = f"{number}: {name}" if len(groups) > 1 else name
        section.figures += frontier_figures(title, records)
        section.tables.append(results_table(title, distinct_records(records)))
    if len(groups) > 1:
        section.notes.append(f"{len(groups)} protocols were used: numbers of different tables cannot be compared.")
    return section


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
    return " ".join(table.sampling_label(record, numbers)) or record["text"]


def results_table(title: str, records: list[Record]) -> ReportTable:
    """Table of the records of one protocol, with protocol, deviations and lost samples below."""
    columns, marks, rows = table.table_columns(records), table.protocol_marks(records), []
    for record, mark in zip(records, marks, strict=True):
        run = record["run"] if record["text"] == "generated" else ""
        steps = f"{record.get('steps', '')} {sweep_label(record)}".strip()
        cells = [format_value(table.format_cell(record, key, form), key) for key, form in columns.items()]
        rows.append([run, row_label(record), steps, *cells, mark])
    names = [table.COLUMN_TITLES.get(key, key.replace("_", " ")) for key in columns]
    heads = ["run", "text", "steps", *names, "†" if any(marks) else ""]
    seeds = ", ".join(sorted({str(record["seed"]) for record in records if "seed" in record}))
    return ReportTable(title, heads, rows, ". ".join([*table.table_notes(records), f"Seed {seeds}"]) + ".", 3)


def sweep_label(record: Record) -> str:
    """Swept settings of a record."""
    return ", ".join(f"{key} {value}" for key, value in (record.get("sweep") or {}).items())


def row_label(record: Record) -> str:
    """Label of a row."""
    names = {"real": "real text", "shuffled": f"real {record.get('shuffled_units', 'words')}, shuffled"}
    return names.get(record["text"], sampling_label(record, numbers=not sweep_label(record)))


def format_value(cell: table.FormattedValue, key: str) -> str:
    """Number as text, with its interval for the main columns."""
    return f"{cell.value} [{cell.low}, {cell.high}]" if cell.low and key in INTERVAL_COLUMNS else cell.value


def frontier_figures(title: str, records: list[Record]) -> list[ReportFigure]:
    """Figure of perplexity, or of valid stories, against entropy, if there are points."""
    lines: list[Series] = []
    key = table.frontier_key(records[0])
    measure = table.COLUMN_TITLES.get(key, key)
    for name, group, labels in group_series(records):
        pairs = [(finite_number(record["entropy"]), finite_number(record.get(key))) for record in group]
        rows = [(x, y, label) for (x, y), label in zip(pairs, labels, strict=True) if x is not None and y is not None]
        if rows:
            tooltips = [f"{name} {label}: {measure} {format_number(y)}, entropy {x:.2f}" for x, y, label in rows]
            points, labels = [(x, y) for x, y, _ in rows], [label for *_, label in rows]
            lines.append(Series(name, points, len(lines), tooltips, labels, connected=len(rows) > 1))
    if not lines:
        return []
    up = Axis(measure, "log") if key == "perplexity" else Axis("share of valid texts", low=0.0)
    svg = render_chart(f"{title}: {measure} against entropy", Axis("unigram entropy, nats"), up, lines)
    caption = paragraph("frontier" if key == "perplexity" else "story_frontier")
    return [ReportFigure(f"{measure.capitalize()} against entropy ({title.lower()})", svg, caption)]


def group_series(records: list[Record]) -> list[tuple[str, list[Record], list[str]]]:
    """Groups of records joined by a line, with labels: along steps, or along a sweep at fixed steps."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in distinct_records(records):
        generated = record["text"] == "generated"
        groups[f"{record['run']}: {sampling_label(record)}" if generated else row_label(record)].append(record)
    series = []
    for name, group in groups.items():
        steps = [record.get("steps") for record in group]
        if len(set(map(str, steps))) == len(group):
            series.append((name, group, ["" if count is None else str(count) for count in steps]))
            continue
        for count in dict.fromkeys(steps):
            sweep = [record for record in group if record.get("steps") == count]
            sweep.sort(key=lambda record: [value for _, value in sampling_settings(record)])
            labels = [sweep_label(record) or varying_settings(record, sweep) for record in sweep]
            series.append((f"{name}, {count} steps", sweep, labels))
    return series


def sampling_settings(record: Record) -> list[tuple[str, float]]:
    """Numeric settings of sampler, escape and guidance."""
    parts = {**(record.get("escape") or {}), **(record.get("sampler") or {}), "w": record.get("self_cond_guidance")}
    numbers = [(key, finite_number(value)) for key, value in parts.items()]
    return sorted((key, value) for key, value in numbers if value is not None)


def varying_settings(record: Record, records: list[Record]) -> str:
    """Settings in which a record differs from the others."""
    others = [dict(sampling_settings(other)) for other in records]
    settings = sampling_settings(record)
    return ", ".join(f"{key} {value:g}" for key, value in settings if len({other.get(key) for other in others}) > 1)
