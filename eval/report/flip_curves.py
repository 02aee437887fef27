"""Flips against the blur s(t), from what textflow diagnose measured."""

from collections.abc import Sequence

from .axis import Axis
from .chart import Line, chart
from .copy import prose
from .folder import Record, Run, points
from .numbers import number_of
from .section import Missing, Picture, Section


def section(runs: Sequence[Run]) -> Section:
    """Both pictures, and which runs were not measured."""
    made = Section("flips", "Flips against s(t)", [prose("flips")])
    rolled: list[Line] = []
    tubes: list[Line] = []
    for run in runs:
        named = f"{run.name}: " if len(runs) > 1 else ""
        rolled += of_rollin(run.diagnosed.get("rollin") or [], named, len(rolled))
        tubes += of_tube(run.diagnosed.get("tube") or [], named, len(tubes))
        if run.kind == "continuous" and not (run.diagnosed.get("rollin") and run.diagnosed.get("tube")):
            made.missing.append(Missing(run.name, "no measured flips", f"textflow diagnose {run.folder}"))
    share = Axis("share of tokens flipped", low=0.0)
    if rolled:
        svg = chart("Flips against s(t)", Axis("s(t), latent units", "log"), share, rolled)
        made.pictures.append(Picture("One step, and the sampler's own states", svg, prose("rollin")))
    if tubes:
        svg = chart("Flips against the blur of the guess", Axis("blur s, standard deviations", "log"), share, tubes)
        made.pictures.append(Picture("The tube law", svg, prose("tube")))
    return made


def of_rollin(rows: list[Record], named: str, first: int) -> list[Line]:
    """Lines of the roll-in: one step and floor at all times, cumulative for the finest grid."""
    finest = max((number_of(row.get("K")) or 0 for row in rows), default=0)
    own = [row for row in rows if number_of(row.get("K")) == finest]
    found = {
        f"{named}one step": points(rows, "s_channel", "flips"),
        f"{named}floor": points(rows, "s_channel", "floor"),
        f"{named}cumulative, {finest:g} steps": points(own, "s_channel", "cumulative"),
    }
    made = [(name, at) for name, at in found.items() if at]
    return [Line(name, at, first + i, dashed="floor" in name) for i, (name, at) in enumerate(made)]


def of_tube(rows: list[Record], named: str, first: int) -> list[Line]:
    """Lines of the tube law by blur."""
    names = {"observed": "observed", "predicted": "tube law", "surrogate": "channel's noise alone"}
    made = [(f"{named}{words}", points(rows, "s", key)) for key, words in names.items()]
    lines = [(name, at) for name, at in made if at]
    return [Line(name, at, first + i, dashed="observed" not in name) for i, (name, at) in enumerate(lines)]
