"""Map of DABI (damage by the model's own error) against CCI (share of sequentially decided token pairs)."""

from collections import defaultdict
from collections.abc import Sequence
from shlex import quote
from typing import NamedTuple

from .axis import Axis, format_number
from .chart import Series, render_chart
from .folder import RunReport
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection, ReportTable, paragraph

DISCRETE_KINDS = ("masked", "autoregressive")


class MapPoint(NamedTuple):
    """Sampler of a run on the map; DABI is None where undefined."""

    name: str
    cci: float
    dabi: float | None
    source: str


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with the map, its numbers and missing results."""
    section, points = ReportSection("map", "DABI and CCI", [paragraph("map")]), list[MapPoint]()
    for run in runs:
        points += run_points(run)
        section.missing += missing_results(run)
    if points:
        series = [
            Series(name, [(cci, dabi)], i, [f"{name}: CCI {cci:.3f}, DABI {dabi:.2f}"], connected=False)
            for i, ((cci, dabi), name) in enumerate(merge_points(points).items())
        ]
        values = [point.dabi for point in points if point.dabi]
        up = Axis("DABI of flips", "log", min([1.0, *values]), max([10.0, *values]))
        across = Axis("CCI, share of pairs", low=-0.04, high=1.04)
        lines = [(point.cci, point.name) for point in points if point.dabi is None]
        svg = render_chart("DABI against CCI", across, up, series, lines)
        section.figures.append(ReportFigure("DABI and CCI of each sampler", svg))
        rows = [
            [p.name, p.source, f"{p.cci:.3f}", "not defined" if p.dabi is None else format_number(p.dabi)]
            for p in points
        ]
        heads = ["run and sampler", "measured by", "CCI", "DABI of flips"]
        section.tables.append(ReportTable("The numbers", heads, rows))
    return section


def merge_points(points: Sequence[MapPoint]) -> dict[tuple[float, float], str]:
    """Names by position (CCI, DABI); overlapping points share a marker."""
    groups: dict[tuple[float, float], str] = {}
    for point in points:
        if point.dabi is not None:
            position = (round(point.cci, 3), point.dabi)
            run = groups.get(position, "").split(": ")[0]
            sampler = point.name.removeprefix(f"{run}: ")
            groups[position] = f"{groups[position]}, {sampler}" if run else point.name
    return groups


def run_points(run: RunReport) -> list[MapPoint]:
    """Points of a run's samplers with a CCI; a continuous run also needs a DABI."""
    dabi, ccis = run_dabi(run), run_cci(run)
    if run.kind in DISCRETE_KINDS:
        return [MapPoint(run.name, value, None, source) for _, value, source in ccis]
    if dabi is None:
        return []
    value, source = dabi
    return [
        MapPoint(f"{run.name}: {sampler}", cci, value, f"{origin}; DABI: {source}") for sampler, cci, origin in ccis
    ]


def run_dabi(run: RunReport) -> tuple[float, str] | None:
    """DABI of flips at K = 8, else the last logged value."""
    for row in run.diagnostics.get("dabi") or []:
        if row.get("K") == 8 and row.get("scale") == 1 and (value := finite_number(row.get("flip"))):
            return value, "diagnose, 8 steps"
    logged = run.curves.get("dabi/flip")
    return (logged[-1][1], f"training, step {logged[-1][0]:g}") if logged and logged[-1][1] > 0 else None


def run_cci(run: RunReport) -> list[tuple[str, float, str]]:
    """Tuples (sampler, CCI, origin of the measurement)."""
    rows = [(str(row.get("escape")), finite_number(row.get("cci"))) for row in run.diagnostics.get("cci") or []]
    measured = [(sampler, value, "diagnose, 8 steps") for sampler, value in rows if value is not None]
    if measured:
        return measured
    by_sampler: dict[str, list[float]] = defaultdict(list)
    for record in run.own_trajectories:
        if (value := finite_number(record.get("cci"))) is not None:
            by_sampler[record["method"]].append(value)
    if by_sampler:
        return [(sampler, sum(v) / len(v), f"mean of {len(v)} trajectories") for sampler, v in by_sampler.items()]
    logged = run.curves.get("cci/value")
    return [("its own", logged[-1][1], f"training, step {logged[-1][0]:g}")] if logged else []


def missing_results(run: RunReport) -> list[MissingResult]:
    """Missing results that keep a run off the map."""
    if run.kind == "continuous" and not (run_dabi(run) and run_cci(run)):
        return [
            MissingResult(
                run.name, "no DABI or no CCI", f"textflow diagnose {quote(str(run.folder))} --measures dabi,cci"
            )
        ]
    if run.kind in DISCRETE_KINDS and not run_cci(run):
        return [
            MissingResult(
                run.name, "no CCI: it comes with its trajectories", f"textflow report {quote(str(run.folder))}"
            )
        ]
    return []
