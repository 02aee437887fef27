"""Flips against the blur s(t), from the results of textflow diagnose."""

from collections.abc import Sequence
from shlex import quote

from .axis import Axis
from .chart import Series, render_chart
from .folder import Record, RunReport
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection, paragraph

TUBE_LABELS = {"observed": "observed", "predicted": "tube law", "surrogate": "channel's noise alone"}


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with both figures and the runs without measurements."""
    section = ReportSection("flip_curves", "Flips against s(t)", [paragraph("flip_curves")])
    rollin, tube = list[Series](), list[Series]()
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        rollin += rollin_series(run.diagnostics.get("rollin") or [], prefix, len(rollin))
        tube += tube_series(run.diagnostics.get("tube") or [], prefix, len(tube))
        if run.kind == "continuous" and not (run.diagnostics.get("rollin") and run.diagnostics.get("tube")):
            section.missing.append(
                MissingResult(run.name, "no measured flips", f"textflow diagnose {quote(str(run.folder))}")
            )
    share = Axis("share of tokens flipped", low=0.0)
    if rollin:
        svg = render_chart("Flips against s(t)", Axis("s(t), latent units", "log"), share, rollin)
        section.figures.append(ReportFigure("One step, and the sampler's own states", svg, paragraph("rollin")))
    if tube:
        blur = Axis("blur s, standard deviations", "log")
        svg = render_chart("Flips against the blur of the prediction", blur, share, tube)
        section.figures.append(ReportFigure("The tube law", svg, paragraph("tube")))
    return section


def rollin_series(rows: list[Record], prefix: str, style: int) -> list[Series]:
    """Lines of the roll-in: one step and Bayes error at all times, cumulative for the finest grid."""
    finest = max((finite_number(row.get("K")) or 0 for row in rows), default=0)
    finest_rows = [row for row in rows if finite_number(row.get("K")) == finest]
    curves = {
        "one step": xy_points(rows, "channel_blur", "flips"),
        "Bayes error": xy_points(rows, "channel_blur", "bayes_error"),
        f"cumulative, {finest:g} steps": xy_points(finest_rows, "channel_blur", "cumulative"),
    }
    lines = [(name, points) for name, points in curves.items() if points]
    return [Series(prefix + name, xy, style + i, dashed=name == "Bayes error") for i, (name, xy) in enumerate(lines)]


def tube_series(rows: list[Record], prefix: str, style: int) -> list[Series]:
    """Lines of the tube law by blur."""
    curves = [(label, xy_points(rows, "blur", key)) for key, label in TUBE_LABELS.items()]
    lines = [(name, points) for name, points in curves if points]
    return [Series(prefix + name, xy, style + i, dashed=name != "observed") for i, (name, xy) in enumerate(lines)]


def xy_points(rows: list[Record], x: str, y: str) -> list[tuple[float, float]]:
    """Points (x, y) of the rows with both numbers, sorted by x."""
    pairs = [(finite_number(row.get(x)), finite_number(row.get(y))) for row in rows]
    return sorted((a, b) for a, b in pairs if a is not None and b is not None)
