"""Stories section: valid texts and agreements that hold, against the number of steps and over training."""

from collections import defaultdict
from collections.abc import Sequence

from ..record import STORY_KEYS
from ..table import format_cell, sampling_label
from .axis import Axis
from .chart import Series, render_chart
from .folder import Record, RunReport
from .numbers import finite_number
from .results import sweep_label
from .section import ReportFigure, ReportSection, paragraph
from .training import Panel, run_series

TITLES = {"stories/valid": "Valid texts", "stories/bound": "Agreements that hold"}


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with a figure for each grammar and share by steps, and for each share over training; may be empty."""
    section = ReportSection("stories", "Stories", [paragraph("stories")])
    grammars: dict[str, list[Record]] = defaultdict(list)
    for run in runs:
        for record in run.records:
            if STORY_KEYS[0] in record:
                grammars[str(record["scorer"])].append(record)
    for key, title in TITLES.items():
        for grammar, records in grammars.items():
            section.figures += steps_figures(f"{title} by steps ({grammar})", key, records, len(runs) > 1)
        section.figures += training_figures(title, key, runs)
    return section


def steps_figures(title: str, key: str, records: list[Record], with_names: bool) -> list[ReportFigure]:
    """Share against the number of steps, a line for each run and sampler; dashed: real text. None without points."""
    groups: dict[str, dict[float, Record]] = defaultdict(dict)
    known = [record for record in records if finite_number(record.get(key)) is not None]
    for record in sorted(known, key=lambda record: finite_number(record.get("n")) or 0):  # most samples last
        steps = finite_number(record.get("steps"))
        if record["text"] == "generated" and steps is not None:
            groups[line_name(record, with_names)][steps] = record
    lines = [share_series(name, i, key, sorted(groups[name].items())) for i, name in enumerate(groups)]
    real = [record for record in known if record["text"] == "real"]
    counts = [steps for group in groups.values() for steps in group]
    if not counts:
        return []
    if real:
        ends = [(k, float(real[0][key])) for k in (min(counts), max(counts))]
        lines.append(Series("real text", ends, len(lines), markers=False, dashed=True))
    svg = render_chart(title, Axis("sampling steps", "log"), Axis("share", low=0.0, high=1.0), lines)
    return [ReportFigure(title, svg, paragraph("stories_by_steps"))]


def share_series(name: str, style: int, key: str, records: list[tuple[float, Record]]) -> Series:
    """Line of a sampler by its number of steps, with intervals in the tooltips."""
    points = [(steps, float(record[key])) for steps, record in records]
    return Series(name, points, style, [tooltip(name, key, record) for _, record in records])


def line_name(record: Record, with_name: bool) -> str:
    """Name of a line: run, escape and sampler with their settings, swept settings."""
    run = f"{record['run']}:" if with_name else ""
    return " ".join(filter(None, [run, *sampling_label(record), sweep_label(record)]))


def tooltip(name: str, key: str, record: Record) -> str:
    """Line, steps, share with its interval, and number of texts."""
    cell = format_cell(record, key, "{:.1%}")
    interval = f" [{cell.low}, {cell.high}]" if cell.low else ""
    return f"{name}, {record['steps']} steps: {cell.value}{interval}, n {record['n']}"


def training_figures(title: str, key: str, runs: Sequence[RunReport]) -> list[ReportFigure]:
    """Share over training for each number of steps, as `StoryCurves` logs it; none without curves."""
    names = dict.fromkeys(name for run in runs for name in run.curves if name.startswith(f"{key}/"))
    panel = Panel(f"{title} over training", "share", {name: f"{name.rsplit('/')[-1]} steps" for name in names})
    lines = [line for run in runs for line in run_series(run, panel, f"{run.name}: " if len(runs) > 1 else "")]
    for style, line in enumerate(lines):
        line.style = style
    if not lines:
        return []
    svg = render_chart(panel.title, Axis("optimizer steps"), Axis("share", low=0.0, high=1.0), lines)
    return [ReportFigure(panel.title, svg, paragraph("stories_over_training"))]
