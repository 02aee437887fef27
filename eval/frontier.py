"""Frontiers: perplexity or valid stories against entropy over a swept setting; one number does not rank runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .figures.style import COLORS, MARKERS, figure, shared_legend
from .record import Record, protocol_hash
from .table import COLUMN_TITLES, frontier_key, protocol_line


def draw_frontier(records: Sequence[Record], key: str, folder: Path) -> Path:
    """Draw FOLDER/frontier-KEY-<hash>.png and .svg; a star marks real text."""
    y = frontier_key(records[0])
    swept = [record for record in records if record.get("sweep") and record[y] is not None]
    if not swept:
        raise ValueError(f"no frontier over {key}: no cell has a perplexity, since no sample had a token to score")
    path = folder / f"frontier-{key}-{protocol_hash({'of': [protocol_hash(record) for record in records]})}"
    first = swept[0]
    caption = f"Each point a value of {key}, n = {first['n']}, with 95% intervals. {protocol_line(first)}."
    with figure(path, caption, width=5.6, height=4.2) as axes:
        for i, steps in enumerate(dict.fromkeys(record["steps"] for record in swept)):
            draw_line(axes, [r for r in swept if r["steps"] == steps], key, y, COLORS[i % 7], MARKERS[i % 10])
        for record in records:
            if record["text"] == "real" and record[y] is not None:
                axes.plot(record["entropy"], record[y], "*", color="black", markersize=12, label="real text")
        scale = "log" if y == "perplexity" else "linear"
        axes.set(xlabel="unigram entropy (nats)", ylabel=COLUMN_TITLES.get(y, y), yscale=scale)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        shared_legend(axes)
    return path.with_suffix(".svg")


def draw_line(axes: Any, records: Sequence[Record], key: str, number: str, colour: str, mark: str) -> None:
    """Draw the points of one number of steps, each labelled with its value."""
    x, y = [r["entropy"] for r in records], [r[number] for r in records]
    bars = [interval_widths(records, "entropy"), interval_widths(records, number)]
    axes.errorbar(x, y, bars[1], bars[0], mark + "-", color=colour, label=f"{records[0]['steps']} steps", capsize=2)
    for record, point in zip(records, zip(x, y, strict=True), strict=True):
        axes.annotate(f"{record['sweep'][key]:g}", point, (4, 4), textcoords="offset points", fontsize=7)


def interval_widths(records: Sequence[Record], key: str) -> list[list[float]]:
    """Distances from a number to the ends of its interval, [below, above]; 0 where there is none."""
    widths: list[list[float]] = [[], []]
    for record in records:
        low, high = record["intervals"].get(key) or (None, None)
        widths[0].append(0.0 if low is None else max(record[key] - low, 0.0))
        widths[1].append(0.0 if high is None else max(high - record[key], 0.0))
    return widths
