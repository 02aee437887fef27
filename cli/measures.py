"""Measures of a diagnosis: their names, tables and record."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def parse_measures(measures: str | None, known: Mapping[str, str]) -> list[str]:
    """Parse the names of measures; by default all that are known."""
    names = list(known) if measures is None else [name.strip() for name in measures.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no measure {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return names


def print_measures(
    names: Sequence[str],
    titles: Mapping[str, str],
    measure: Callable[[str], list[dict[str, Any]]],
    facts: dict[str, Any],
    folder: Path,
    chosen: bool = True,
) -> dict[str, Any]:
    """Print the table of each measure, write the results after each, and return them with the facts.

    Without a terminal, which shows a status line, the name of each measure is printed to standard error as it starts.

    Args:
        names: names of the measures.
        titles: titles of the tables by name.
        measure: name -> rows.
        facts: model, data, n and seed.
        folder: folder of diagnose.json.
        chosen: whether the user named the measures; the first that does not apply to the model is then an error, and
            else it is left out with its reason, unless none applies.
    """
    from rich.console import Console

    console, results = Console(width=max(150, Console().width), markup=False), dict[str, Any](run=dict(facts))
    for number, name in enumerate(names, 1):
        if not console.is_terminal:
            print(f"measuring {name} ({number} of {len(names)})", file=sys.stderr, flush=True)
        try:
            with console.status(f"measuring {name}"):
                results[name] = measure(name)
        except ValueError as error:
            if chosen or (len(results) == 1 and number == len(names)):  # the facts alone
                raise
            print(f"no {name}: {error}", file=sys.stderr, flush=True)
            results["run"].setdefault("refusals", {})[name] = str(error)
        else:
            console.print(make_table(titles[name], results[name]))
        write_results(folder, results)
    return results


def make_table(title: str, rows: list[dict[str, Any]]) -> Any:
    """Table of rows; a value and its interval share a cell, and lists are joined by spaces."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if name.rsplit("_", 1)[-1] not in ("low", "high")]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(format_cell(row, name) for name in names))
    return table


def format_cell(row: dict[str, Any], name: str) -> str:
    """Format a value with its 95 % interval, if any; at the floor, with its lower bound, if missing."""
    from textflow.diagnostics.bootstrap import at_floor

    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if low is None:
        return format_value(value)
    if value is None:
        return at_floor(format_value(low))
    return f"{format_value(value)} [{format_value(low)}, {format_value(high)}]"


def format_value(value: Any) -> str:
    """Format a number, a word or a list of them."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return " ".join(map(format_value, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write the results measured so far."""
    from textflow.eval.record import replace_nonfinite
    from textflow.runtime.atomic import atomic_write_json

    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / "diagnose.json", replace_nonfinite(results))
