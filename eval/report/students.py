"""Distillation section: each student against its teacher at the same number of steps."""

from collections import defaultdict
from collections.abc import Sequence

from .axis import Axis, format_number
from .chart import Series, render_chart
from .copy import paragraph
from .folder import Record, RunReport
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection, ReportTable

COLUMNS = {
    "perplexity": "perplexity",
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
    made = ReportSection("rounds", "Rounds of distillation", [paragraph("rounds")])
    for run in runs:
        rows = [row for row in run.scored_rounds if finite_number(row.get("steps")) is not None]
        if run.rounds and not rows:
            reason = "its rounds are not scored; with a scorer beside it (textflow fit recipes/scorer.yaml), repeat"
            made.missing.append(
                MissingResult(
                    run.name,
                    reason,
                    f"textflow distill RECIPE --teacher {run.rounds.get('teacher')} --run.folder {run.folder}",
                )
            )
        if rows:
            made.figures += [
                steps_figure(run, rows, key, unit) for key, unit in (("perplexity", "log"), ("entropy", "linear"))
            ]
            made.tables.append(rounds_table(run, rows))
    if not any(run.rounds or run.scored_rounds for run in runs):
        teacher = next((run.folder for run in runs if run.kind == "continuous"), "RUN")
        reason = "no distillation among these runs; give its folder as one more RUN"
        made.missing.append(
            MissingResult("", reason, f"textflow distill recipes/quickstart_pd.yaml --teacher {teacher}")
        )
    return made


def steps_figure(run: RunReport, rows: list[Record], key: str, scale: str) -> ReportFigure:
    """Metric by steps: students solid, teachers dashed, one colour per sampler."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        steps, value = finite_number(row.get("steps")), finite_number(row.get(key))
        if steps is not None and value is not None:
            groups[str(row.get("sampler_name")), str(row.get("role"))].append((steps, value))
    samplers = list(dict.fromkeys(sampler for sampler, _ in groups))
    lines = [
        Series(f"{who}, {sampler}", sorted(at), samplers.index(sampler), dashed=who == "teacher")
        for (sampler, who), at in groups.items()
    ]
    up = Axis(COLUMNS[key], "log" if scale == "log" else "linear")
    svg = render_chart(f"{run.name}: {key} by steps", Axis("sampling steps", "log"), up, lines)
    return ReportFigure(f"{run.name}: {key} by steps", svg, "Solid: the student; dashed: its teacher.")


def rounds_table(run: RunReport, rows: list[Record]) -> ReportTable:
    """Table of all numbers of a distillation."""
    columns = [key for key in COLUMNS if any(finite_number(row.get(key)) is not None for row in rows)]
    cells = [
        [str(row.get("steps")), str(row.get("role")), str(row.get("sampler_name"))]
        + ["–" if (value := finite_number(row.get(key))) is None else format_number(value) for key in columns]
        for row in rows
    ]
    first = rows[0]
    caption = f"Scorer {first.get('scorer')} (weights {first.get('scorer_hash')}, {first.get('scorer_dtype')})."
    return ReportTable(
        f"{run.name}: all rounds", ["steps", "role", "sampler", *(COLUMNS[k] for k in columns)], cells, caption, 3
    )
