"""Curves over training, as logged by the callbacks."""

from collections.abc import Sequence
from shlex import quote
from typing import NamedTuple

from .axis import Axis, Scale
from .chart import Series, render_chart
from .folder import RunReport
from .section import MissingResult, ReportFigure, ReportSection, load_copy, paragraph

MAX_POINTS = 300  # points per line; longer lines show means of neighbouring points
DIAGNOSTIC_PREFIXES = ("dabi/", "tube/", "cci/", "stiffness/", "margins/", "rollin/")


class Panel(NamedTuple):
    """Figure with one or more curves; its caption is in copy.yaml.

    Args:
        title: title of the figure.
        unit: unit of the vertical axis.
        labels: curve labels, by name in metrics.csv.
        low: lower end of the vertical axis; None: from the data.
        scale: scale of the vertical axis.
    """

    title: str
    unit: str
    labels: dict[str, str]
    low: float | None = 0.0
    scale: Scale = "linear"


DABI_LABELS = {
    "dabi/ce": "of the loss",
    "dabi/flip": "of flips",
    "dabi/ce_at_least": "of the loss, at least",
    "dabi/flip_at_least": "of flips, at least",
}
FLIP_LABELS = {
    "tube/observed": "observed",
    "tube/predicted": "tube law",
    "dabi/structured_flip_rate": "along the error",
    "dabi/isotropic": "random directions",
}
STIFFNESS_LABELS = {"stiffness/peak": "largest of a step", "stiffness/total": "noise to text"}
SETTLED_LABELS = {"margins/agreement": "final already, half way", "margins/settled_time": "mean time of settling"}
ROLLIN_LABELS = {"rollin/terminal": "last step", "rollin/bayes_error": "Bayes error at the first time"}
PANELS = (
    Panel("Loss", "loss of the objective", {"train/loss": "training", "val/loss": "held-out text"}, low=None),
    Panel("DABI [ours]", "ratio", DABI_LABELS),
    Panel("Flips before the text", "share of tokens", FLIP_LABELS),
    Panel("CCI [ours]", "share of pairs", {"cci/value": "samples"}),
    Panel("Stiffness [ours]", "spectral norm", STIFFNESS_LABELS, None, "log"),
    Panel("Margins half way [ours]", "margin, nats", {"margins/mean": "mean", "margins/p10": "10th percentile"}),
    Panel("Settled [ours]", "share", SETTLED_LABELS),
    Panel("Roll-in", "share of tokens", ROLLIN_LABELS),
)


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with a figure for each panel that any run has logged."""
    section = ReportSection("training", "Training curves", [paragraph("training")])
    section.missing = [missing for run in runs for missing in missing_results(run)]
    for panel in PANELS:
        lines = [line for run in runs for line in run_series(run, panel, f"{run.name}: " if len(runs) > 1 else "")]
        for style, line in enumerate(lines):
            line.style = style
        if lines:
            up = Axis(panel.unit, panel.scale, panel.low)
            svg = render_chart(f"{panel.title} over training", Axis("optimizer steps"), up, lines)
            section.figures.append(ReportFigure(panel.title, svg, load_copy()["captions"][panel.title]))
    return section


def missing_results(run: RunReport) -> list[MissingResult]:
    """Missing curves of a run."""
    if run.kind == "rounds":
        return []
    if not run.curves:
        return [MissingResult(run.name, "no metrics.csv: nothing was logged", "textflow fit RECIPE")]
    if run.kind != "continuous" or any(name.startswith(DIAGNOSTIC_PREFIXES) for name in run.curves):
        return []
    reason = (
        "no diagnostic was logged; name them in trainer.callbacks of the recipe (DABI, Tube, CCI, Stiffness, Margins,"
        " RollIn), or measure the finished run"
    )
    return [MissingResult(run.name, reason, f"textflow diagnose {quote(str(run.folder))}")]


def run_series(run: RunReport, panel: Panel, prefix: str) -> list[Series]:
    """Curves of a run in a panel; a repeated step keeps its last value."""
    curves = [(label, dict(run.curves.get(key, []))) for key, label in panel.labels.items()]
    lines = [(label, downsample(sorted(curve.items()))) for label, curve in curves if curve]
    return [Series(prefix + label, points, markers=len(points) <= 40) for label, points in lines]


def downsample(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS points: means of neighbouring points."""
    if len(points) <= MAX_POINTS:
        return points
    size = -(-len(points) // MAX_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
