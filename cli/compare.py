"""textflow compare: the kept records of several runs in one table."""

from pathlib import Path

from textflow.cli.eval import Format


def compare(
    runs: list[Path] = [],  # noqa: B006  jsonargparse appends to a copy
    published: str | None = None,
    format: Format = "table",
) -> None:
    """Print what `textflow eval` measured of several runs; rows of different protocols carry different marks.

    Args:
        runs: folders of runs, folders of records, or records (.json).
        published: numbers of papers to print beside: few_step (OpenWebText), or a YAML file like it.
        format: table, csv, markdown or latex.
    """
    if not runs:
        raise ValueError("no run: textflow compare checkpoints/quickstart [RUN ...]")
    from textflow.cli.scoring import show
    from textflow.eval.compare import collected
    from textflow.eval.compare import published as numbers

    show([*(numbers(published) if published else []), *collected(runs)], format)
