"""textflow compare: evaluation records of several runs in one table."""

from pathlib import Path

from .eval import Format


def compare(
    runs: list[Path] = [],  # noqa: B006  jsonargparse appends to a copy
    published: str | None = None,
    format: Format = "table",
) -> None:
    """Print the records of `textflow eval` for several runs in one table, with a mark per protocol.

    For distillation rounds, print which student is best at how many steps.

    Args:
        runs: folders of runs, names hf:OWNER/NAME of runs on the Hub, folders of records, or record files (.json); or
            only folders of distillation rounds.
        published: published results to add to the table: few_step (OpenWebText), or a YAML file of the same form.
        format: output format: table, csv, markdown or latex.
    """
    if not runs:
        raise ValueError("no run: textflow compare checkpoints/quickstart [RUN ...]")
    from textflow.config.shipped import find_run
    from textflow.eval.distillation.tables import is_distillation

    runs = [find_run(run) for run in runs]
    if all(map(is_distillation, runs)):
        return print_distillations(runs)
    from textflow.eval.compare import collect_records
    from textflow.eval.compare import load_published as numbers

    from .scorers import print_records

    print_records([*(numbers(published) if published else []), *collect_records(runs)], format)


def print_distillations(folders: list[Path]) -> None:
    """Print a table of distillations of one teacher."""
    from rich.console import Console

    from textflow.eval.distillation.tables import protocol_line, student_matrix

    from .measures import make_table

    title = f"Students of one teacher: perplexity / entropy (NFE); {protocol_line(folders[0])}; * lowest nll - entropy"
    Console(width=max(150, Console().width), markup=False).print(make_table(title, student_matrix(folders)))
