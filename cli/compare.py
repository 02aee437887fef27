"""textflow compare: the kept records of several runs in one table."""

from pathlib import Path

from .eval import Format


def compare(
    runs: list[Path] = [],  # noqa: B006  jsonargparse appends to a copy
    published: str | None = None,
    format: Format = "table",
) -> None:
    """Print what `textflow eval` measured of several runs; rows of different protocols carry different marks.

    Of rounds of distillation: which student helps at how many steps.

    Args:
        runs: folders of runs, folders of records, or records (.json); or all folders of rounds.
        published: numbers of papers to print beside: few_step (OpenWebText), or a YAML file like it.
        format: table, csv, markdown or latex.
    """
    if not runs:
        raise ValueError("no run: textflow compare checkpoints/quickstart [RUN ...]")
    from textflow.eval.distillation.tables import are_rounds

    if all(map(are_rounds, runs)):
        return side_by_side(runs)
    from textflow.eval.compare import collected
    from textflow.eval.compare import published as numbers

    from .scorers import show

    show([*(numbers(published) if published else []), *collected(runs)], format)


def side_by_side(folders: list[Path]) -> None:
    """Print distillations of one teacher beside one another."""
    from rich.console import Console

    from textflow.eval.distillation.tables import matrix, protocol

    from .diagnose import table

    title = f"Students of one teacher: perplexity / entropy (passes); {protocol(folders[0])}; * least nll - entropy"
    Console(width=max(150, Console().width), markup=False).print(table(title, matrix(folders)))
