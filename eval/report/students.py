"""Distillation section: each student against its teacher at the same number of steps."""

import shlex
from collections import defaultdict
from collections.abc import Sequence

from .axis import Axis, Scale, format_number
from .chart import Series, render_chart
from .folder import Record, RunReport
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection, ReportTable, paragraph

COLUMNS = {
    "perplexity": "perplexity",
    "bits_per_character": "bits per character",
    "entropy": "entropy, nats",
    "seq_rep_4": "seq-rep-4",
    "human_repetition_share": "human repetition share",
    "nfe": "NFE",
    "cci": "CCI [ours]",
    "stiffness": "stiffness [ours]",
    "dabi_ce": "DABI of loss [ours]",
    "dabi_flip": "DABI of flips [ours]",
    "n": "n",
}


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with a figure and a table for each distillation."""
    section = ReportSection("rounds", "Rounds of distillation", [paragraph("rounds")])
    for run in runs:
        rows = [row for row in run.scored_rounds if finite_number(row.get("steps")) is not None]
        if rows:
            section.figures += [steps_figure(run, rows, "perplexity", "log"), steps_figure(run, rows, "entropy")]
            section.tables.append(rounds_table(run, rows))
        elif run.rounds:
            reason = "its rounds are not scored; with a scorer beside it (textflow fit recipes/scorer.yaml), repeat"
            options = ["--teacher", str(run.rounds.get("teacher")), "--run.folder", str(run.folder)]
            command = f"textflow distill RECIPE {shlex.join(options)}"
            section.missing.append(MissingResult(run.name, reason, command))
    if not any(run.rounds or run.scored_rounds for run in runs):
        teacher = next((run.folder for run in runs if run.kind == "continuous"), "RUN")
        reason = "no distillation among these runs; give its folder as one more RUN"
        command = f"textflow distill recipes/small/elf_pd.yaml --teacher {shlex.quote(str(teacher))}"
        section.missing.append(MissingResult("", reason, command))
    return section


def steps_figure(run: RunReport, rows: list[Record], key: str, scale: Scale = "linear") -> ReportFigure:
    """Metric by steps: students solid, teachers dashed, one colour per sampler."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        steps, value = finite_number(row.get("steps")), finite_number(row.get(key))
        if steps is not None and value is not None:
            groups[str(row.get("sampler_name")), str(row.get("role"))].append((steps, value))
    samplers = list(dict.fromkeys(sampler for sampler, _ in groups))
    lines = [
        Series(f"{role}, {sampler}", sorted(points), samplers.index(sampler), dashed=role == "teacher")
        for (sampler, role), points in groups.items()
    ]
    title = f"{run.name}: {key} by steps"
    svg = render_chart(title, Axis("sampling steps", "log"), Axis(COLUMNS[key], scale), lines)
    return ReportFigure(title, svg, "Solid: the student; dashed: its teacher.")


def rounds_table(run: RunReport, rows: list[Record]) -> ReportTable:
    """Table of all numbers of a distillation."""
    columns = [key for key in COLUMNS if any(finite_number(row.get(key)) is not None for row in rows)]
    cells = [
        [str(row.get(key)) for key in ("steps", "role", "sampler_name")]
        + ["–" if (value := finite_number(row.get(key))) is None else format_number(value) for key in columns]
        for row in rows
    ]
    scorer = [rows[0].get(key) for key in ("scorer", "scorer_hash", "scorer_dtype")]
    heads = ["steps", "role", "sampler", *(COLUMNS[key] for key in columns)]
    return ReportTable(f"{run.name}: all rounds", heads, cells, "Scorer {} (weights {}, {}).".format(*scorer), 3)
