"""Rounds of distillation: each student beside its teacher at the same number of steps."""

from collections import defaultdict
from collections.abc import Sequence

from .axis import Axis, short
from .chart import Line, chart
from .copy import prose
from .folder import Record, Run
from .numbers import number_of
from .section import Missing, Picture, Section, Table

COLUMNS = {
    "perplexity": "perplexity",
    "entropy": "entropy, nats",
    "seq_rep_4": "seq-rep-4",
    "clean": "clean",
    "nfe": "passes",
    "cci": "CCI [ours]",
    "stiffness": "stiffness [ours]",
    "dabi_ce": "DABI of loss [ours]",
    "dabi_flip": "DABI of flips [ours]",
    "n": "n",
}


def section(runs: Sequence[Run]) -> Section:
    """A picture and a table for each distillation."""
    made = Section("rounds", "Rounds of distillation", [prose("rounds")])
    for run in runs:
        rows = [row for row in run.scored if number_of(row.get("steps")) is not None]
        if run.rounds and not rows:
            what = "its rounds are not scored; with a scorer beside it (textflow fit recipes/scorer.yaml), repeat"
            made.missing.append(
                Missing(
                    run.name,
                    what,
                    f"textflow distill RECIPE --teacher {run.rounds.get('teacher')} --run.folder {run.folder}",
                )
            )
        if rows:
            made.pictures += [
                drawn(run, rows, key, unit) for key, unit in (("perplexity", "log"), ("entropy", "linear"))
            ]
            made.tables.append(table(run, rows))
    if not any(run.rounds or run.scored for run in runs):
        teacher = next((run.folder for run in runs if run.kind == "continuous"), "RUN")
        what = "no distillation among these runs; give its folder as one more RUN"
        made.missing.append(Missing("", what, f"textflow distill recipes/quickstart_pd.yaml --teacher {teacher}"))
    return made


def drawn(run: Run, rows: list[Record], key: str, scale: str) -> Picture:
    """A number by steps: students drawn through, teachers dashed, a colour for each way of sampling."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        steps, value = number_of(row.get("steps")), number_of(row.get(key))
        if steps is not None and value is not None:
            groups[str(row.get("sampling")), str(row.get("who"))].append((steps, value))
    ways = list(dict.fromkeys(way for way, _ in groups))
    lines = [
        Line(f"{who}, {way}", sorted(at), ways.index(way), dashed=who == "teacher") for (way, who), at in groups.items()
    ]
    up = Axis(COLUMNS[key], "log" if scale == "log" else "linear")
    svg = chart(f"{run.name}: {key} by steps", Axis("sampling steps", "log"), up, lines)
    return Picture(f"{run.name}: {key} by steps", svg, "Drawn through: the student; dashed: its teacher.")


def table(run: Run, rows: list[Record]) -> Table:
    """All numbers of a distillation."""
    columns = [key for key in COLUMNS if any(number_of(row.get(key)) is not None for row in rows)]
    cells = [
        [str(row.get("steps")), str(row.get("who")), str(row.get("sampling"))]
        + ["–" if (value := number_of(row.get(key))) is None else short(value) for key in columns]
        for row in rows
    ]
    first = rows[0]
    words = f"Scorer {first.get('scorer')} (weights {first.get('scorer_hash')}, {first.get('scorer_dtype')})."
    return Table(
        f"{run.name}: all rounds", ["steps", "who", "sampling", *(COLUMNS[k] for k in columns)], cells, words, 3
    )
