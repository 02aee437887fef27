"""The ranking of samplers and escapes on oracle tasks (`textflow reproduce escapes`)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .eval import parse_steps

if TYPE_CHECKING:
    from textflow.eval.oracle.benchmark import RankingConfig


def ranking_config(
    n: int | None,
    seed: int,
    tasks_per_kind: int,
    verdict_tasks_per_kind: int,
    nfe: str,
    bootstrap_samples: int,
    jobs: int,
    quick: bool,
) -> "RankingConfig":
    """Configuration of the ranking from the options of `textflow reproduce`."""
    from textflow.eval.oracle.benchmark import RankingConfig

    sizes: dict[str, Any] = {"tasks_per_kind": tasks_per_kind, "seed": seed, "bootstrap_samples": bootstrap_samples}
    if quick:
        return RankingConfig(
            ["chain"], **sizes, verdict_tasks_per_kind=0, nfe_values=[2, 4, 8], n=n or 128, with_corruptions=False
        )
    sizes |= {"verdict_tasks_per_kind": verdict_tasks_per_kind, "jobs": jobs}
    return RankingConfig(**sizes, nfe_values=parse_steps(nfe), n=n or 1024)


def run_ranking(config: "RankingConfig", console: Any) -> dict[str, Any]:
    """Run the ranking with a progress bar; print its tables and verdicts."""
    from itertools import chain

    from rich.progress import track

    from textflow.eval.figures.escapes import MEASURE_TITLES, format_verdict, make_table
    from textflow.eval.oracle.benchmark import measure_points
    from textflow.eval.oracle.methods import CORRUPTIONS, MODE_METHODS, VERDICT_METHODS
    from textflow.eval.oracle.verdict import commitment_verdict, mean_records

    table_points, verdict_points = config.table_points(), config.verdict_points()
    extra_points = [point for point in verdict_points if point not in {*table_points}]  # not measured for the tables
    n, seed, jobs = config.n, config.seed, config.jobs
    table_results: Iterable[Any] = measure_points(table_points, n, seed, config.bootstrap_samples, jobs)
    results = chain(table_results, measure_points(extra_points, n, seed, 0, jobs))
    points = [*table_points, *extra_points]
    records = dict(zip(points, track(results, "ranking", len(points), console=console, transient=True), strict=True))
    table_records = [records[point] for point in table_points]
    tables = {"means": mean_records(table_records), "records": table_records}
    wide = type(console)(file=console.file, width=max(150, console.width), markup=False, highlight=False)
    for corruption in CORRUPTIONS if config.with_corruptions else ():
        wide.print(make_table(tables["means"], "xkl3", corruption))
    for part in reversed(MEASURE_TITLES):
        wide.print(make_table(tables["means"], part))
    if 4 not in config.nfe_values:
        return tables
    verdict_records = [records[point] | {"std_error": {}} for point in verdict_points]  # intervals are over tasks
    source = {"means": mean_records(verdict_records), "records": verdict_records} if verdict_records else tables
    for part in ("dh1", "xkl3") if verdict_records else ():
        wide.print(make_table(source["means"], part, num_tasks=source["means"][0]["num_tasks"]))
    compared_methods = {"mode commit in its best form": MODE_METHODS} | {name: (name,) for name in VERDICT_METHODS}
    verdicts = {name: commitment_verdict(source["means"], names) for name, names in compared_methods.items()}
    for name, verdict in verdicts.items():
        console.print(format_verdict(name, verdict), soft_wrap=True)
    return tables | {"verdicts": verdicts} | ({"verdict_records": source} if verdict_records else {})
