"""The map of DABI and CCI: how much a model's own error hurts, how much of a text is chosen in sight of the rest."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from .axis import Axis, short
from .chart import Line, chart
from .copy import prose
from .folder import Run
from .numbers import number_of
from .section import Missing, Picture, Section, Table

NO_LATENTS = ("masked", "autoregressive")


class Spot(NamedTuple):
    """A way of a run on the map; DABI is None where there is none."""

    name: str
    cci: float
    dabi: float | None
    source: str


def section(runs: Sequence[Run]) -> Section:
    """The map, its numbers, and what is missing for it."""
    made, spots = Section("map", "DABI and CCI", [prose("map")]), list[Spot]()
    for run in runs:
        spots += of_run(run)
        made.missing += lacking(run)
    rules = [(spot.cci, spot.name) for spot in spots if spot.dabi is None]
    if spots:
        lines = [dot(i, names, *at) for i, (at, names) in enumerate(together(spots).items())]
        values = [spot.dabi for spot in spots if spot.dabi]
        up = Axis("DABI of flips", "log", min([1.0, *values]), max([10.0, *values]))
        across = Axis("CCI, share of pairs", low=-0.04, high=1.04)
        svg = chart("DABI against CCI", across, up, lines, rules)
        made.pictures.append(Picture("Where each stands", svg))
        rows = [[s.name, s.source, f"{s.cci:.3f}", "not defined" if s.dabi is None else short(s.dabi)] for s in spots]
        made.tables.append(Table("The numbers", ["run and way", "measured by", "CCI", "DABI of flips"], rows))
    return made


def together(spots: Sequence[Spot]) -> dict[tuple[float, float], str]:
    """Names by place: those that could not be told apart share a mark."""
    found: dict[tuple[float, float], str] = {}
    for spot in spots:
        if spot.dabi is not None:
            at = (round(spot.cci, 3), spot.dabi)
            run = found.get(at, "").split(": ")[0]
            found[at] = f"{found[at]}, {spot.name.removeprefix(f'{run}: ')}" if run else spot.name
    return found


def dot(style: int, name: str, share: float, dabi: float) -> Line:
    """A mark on the map."""
    return Line(name, [(share, dabi)], style, [f"{name}: CCI {share:.3f}, DABI {dabi:.2f}"], joined=False)


def of_run(run: Run) -> list[Spot]:
    """The ways of a run that have a CCI; a continuous one needs a DABI too."""
    dabi, ccis = dabi_of(run), cci_of(run)
    if run.kind in NO_LATENTS:
        return [Spot(run.name, value, None, source) for _, value, source in ccis]
    if dabi is None:
        return []
    value, source = dabi
    return [Spot(f"{run.name}: {way}", cci, value, f"{origin}; DABI: {source}") for way, cci, origin in ccis]


def dabi_of(run: Run) -> tuple[float, str] | None:
    """DABI of flips at K = 8, else the last that was logged."""
    for row in run.diagnosed.get("dabi") or []:
        if row.get("K") == 8 and row.get("f") == 1 and (value := number_of(row.get("flip"))):
            return value, "diagnose, 8 steps"
    logged = run.curves.get("dabi/flip")
    return (logged[-1][1], f"training, step {logged[-1][0]:g}") if logged and logged[-1][1] > 0 else None


def cci_of(run: Run) -> list[tuple[str, float, str]]:
    """(way, CCI, where it was measured)."""
    rows = [(str(row.get("escape")), number_of(row.get("cci"))) for row in run.diagnosed.get("cci") or []]
    found = [(way, value, "diagnose, 8 steps") for way, value in rows if value is not None]
    if found:
        return found
    ways: dict[str, list[float]] = defaultdict(list)
    for record in run.ways:
        if record["checkpoint_hash"] == run.weights and (value := number_of(record.get("cci"))) is not None:
            ways[record["way"]].append(value)
    if ways:
        return [(way, sum(v) / len(v), f"mean of {len(v)} trajectories") for way, v in ways.items()]
    logged = run.curves.get("cci")
    return [("its own", logged[-1][1], f"training, step {logged[-1][0]:g}")] if logged else []


def lacking(run: Run) -> list[Missing]:
    """What a run needs to have a place."""
    if run.kind == "continuous" and not (dabi_of(run) and cci_of(run)):
        return [Missing(run.name, "no DABI or no CCI", f"textflow diagnose {run.folder} --only dabi,cci")]
    if run.kind in NO_LATENTS and not cci_of(run):
        return [Missing(run.name, "no CCI: it comes with its trajectories", f"textflow report {run.folder}")]
    return []
