"""Flips against the blur s(t), from the results of textflow diagnose."""

from collections.abc import Sequence

from .axis import Axis
from .chart import Series, render_chart
from .copy import paragraph
from .folder import Record, RunReport, xy_points
from .numbers import finite_number
from .section import MissingResult, ReportFigure, ReportSection


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with both figures and the runs without measurements."""
    made = ReportSection("flip_curves", "Flips against s(t)", [paragraph("flip_curves")])
    rolled: list[Series] = []
    tubes: list[Series] = []
    for run in runs:
        named = f"{run.name}: " if len(runs) > 1 else ""
        rolled += rollin_series(run.diagnostics.get("rollin") or [], named, len(rolled))
        tubes += tube_series(run.diagnostics.get("tube") or [], named, len(tubes))
        if run.kind == "continuous" and not (run.diagnostics.get("rollin") and run.diagnostics.get("tube")):
            made.missing.append(MissingResult(run.name, "no measured flips", f"textflow diagnose {run.folder}"))
    share = Axis("share of tokens flipped", low=0.0)
    if rolled:
        svg = render_chart("Flips against s(t)", Axis("s(t), latent units", "log"), share, rolled)
        made.figures.append(ReportFigure("One step, and the sampler's own states", svg, paragraph("rollin")))
    if tubes:
        svg = render_chart(
            "Flips against the blur of the guess", Axis("blur s, standard deviations", "log"), share, tubes
        )
        made.figures.append(ReportFigure("The tube law", svg, paragraph("tube")))
    return made


def rollin_series(rows: list[Record], named: str, first: int) -> list[Series]:
    """Lines of the roll-in: one step and Bayes error at all times, cumulative for the finest grid."""
    finest = max((finite_number(row.get("K")) or 0 for row in rows), default=0)
    own = [row for row in rows if finite_number(row.get("K")) == finest]
    found = {
        f"{named}one step": xy_points(rows, "channel_blur", "flips"),
        f"{named}Bayes error": xy_points(rows, "channel_blur", "bayes_error"),
        f"{named}cumulative, {finest:g} steps": xy_points(own, "channel_blur", "cumulative"),
    }
    made = [(name, at) for name, at in found.items() if at]
    return [Series(name, at, first + i, dashed="Bayes error" in name) for i, (name, at) in enumerate(made)]


def tube_series(rows: list[Record], named: str, first: int) -> list[Series]:
    """Lines of the tube law by blur."""
    names = {"observed": "observed", "predicted": "tube law", "surrogate": "channel's noise alone"}
    made = [(f"{named}{words}", xy_points(rows, "blur", key)) for key, words in names.items()]
    lines = [(name, at) for name, at in made if at]
    return [Series(name, at, first + i, dashed="observed" not in name) for i, (name, at) in enumerate(lines)]
