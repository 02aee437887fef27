"""Frontiers: perplexity against entropy over what a sweep sets; a single perplexity ranks nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .figures.style import COLOURS, MARKS, figure, legend
from .record import Record, protocol_hash
from .table import protocol_of


def draw(records: Sequence[Record], key: str, folder: Path) -> Path:
    """FOLDER/frontier-KEY-<hash>.png and .svg; real text is a star.

    Args:
        records: of a sweep, and of real text.
        key: what was swept.
        folder: of the records.
    """
    swept = [record for record in records if record.get("sweep") and record["perplexity"] is not None]
    if not swept:
        raise ValueError(f"no frontier over {key}: no cell has a perplexity, since no sample had a token to score")
    path = folder / f"frontier-{key}-{protocol_hash({'of': [protocol_hash(record) for record in records]})}"
    first = swept[0]
    caption = f"Each point a value of {key}, n = {first['n']}, with 95% intervals. {protocol_of(first)}."
    with figure(path, caption, width=5.6, height=4.2) as axes:
        for i, steps in enumerate(dict.fromkeys(record["steps"] for record in swept)):
            line(axes, [r for r in swept if r["steps"] == steps], key, COLOURS[i % 7], MARKS[i % 10])
        for record in records:
            if record["text"] == "real" and record["perplexity"] is not None:
                axes.plot(record["entropy"], record["perplexity"], "*", color="black", markersize=12, label="real text")
        axes.set(xlabel="unigram entropy (nats)", ylabel="perplexity", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        legend(axes)
    return path.with_suffix(".svg")


def line(axes: Any, records: Sequence[Record], key: str, colour: str, mark: str) -> None:
    """The points of one number of steps, each with its value."""
    x, y = [r["entropy"] for r in records], [r["perplexity"] for r in records]
    bars = [ends(records, "entropy"), ends(records, "perplexity")]
    axes.errorbar(x, y, bars[1], bars[0], mark + "-", color=colour, label=f"{records[0]['steps']} steps", capsize=2)
    for record in records:
        spot = (record["entropy"], record["perplexity"])
        axes.annotate(f"{record['sweep'][key]:g}", spot, (4, 4), textcoords="offset points", fontsize=7)


def ends(records: Sequence[Record], key: str) -> list[list[float]]:
    """Distances from a number to the ends of its interval, [below, above]; 0 where there is none."""
    found: list[list[float]] = [[], []]
    for record in records:
        low, high = record["intervals"].get(key) or (None, None)
        found[0].append(0.0 if low is None else max(record[key] - low, 0.0))
        found[1].append(0.0 if high is None else max(high - record[key], 0.0))
    return found
