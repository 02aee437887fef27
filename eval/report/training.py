"""Curves over training, as logged by the callbacks."""

from collections.abc import Sequence
from typing import NamedTuple

from .axis import Axis
from .chart import Series, render_chart
from .folder import RunReport
from .section import MissingResult, ReportFigure, ReportSection

MAX_POINTS = 300  # points per line; longer lines show means of neighbouring points
DIAGNOSTIC_PREFIXES = ("dabi/", "tube/", "cci/", "stiffness/", "margins/", "rollin/")


class Panel(NamedTuple):
    """Figure with one or more curves.

    Args:
        title: title of the figure.
        unit: unit of the vertical axis.
        labels: curve labels, by name in metrics.csv.
        caption: explanation of the figure.
        log_scale: use a logarithmic axis.
    """

    title: str
    unit: str
    labels: dict[str, str]
    caption: str
    log_scale: bool = False


PANELS = (
    Panel(
        "Loss",
        "loss of the objective",
        {"train/loss": "training", "val/loss": "held-out text"},
        "The objective's own loss. Objectives differ, so compare runs of one recipe alone.",
    ),
    Panel(
        "DABI [ours]",
        "ratio",
        {
            "dabi/ce": "of the loss",
            "dabi/flip": "of flips",
            "dabi/ce_at_least": "of the loss, at least",
            "dabi/flip_at_least": "of flips, at least",
        },
        "Damage done by the denoiser's own error over damage done by random errors of the same length, at the last time"
        " before the text. 1: its direction is harmless; 10: it points at the boundaries between tokens. The one of"
        " flips is not moved by the decoder's temperature.",
    ),
    Panel(
        "Flips before the text",
        "share of tokens",
        {
            "tube/observed": "observed",
            "tube/predicted": "tube law",
            "dabi/structured_flip_rate": "along the error",
            "dabi/isotropic": "random directions",
        },
        "Tokens that change when real text is noised to the last time before the text and the denoiser's guess is read."
        " The tube law, sqrt(2/pi) s A, predicts them from how many latents lie near a boundary (2606.30705).",
    ),
    Panel(
        "CCI [ours]",
        "share of pairs",
        {"cci/value": "samples"},
        "Pairs of tokens of which one was already chosen, and fed back as a token, when the other was decided. 0: all"
        " at once, 1: one after the other.",
    ),
    Panel(
        "Stiffness [ours]",
        "spectral norm",
        {"stiffness/peak": "largest of a step", "stiffness/total": "whole map"},
        "By how much a small change of the noise can grow in a step, and from noise to text. A smooth map must be stiff"
        " to reach separate texts. Lower bounds by power iteration.",
        True,
    ),
    Panel(
        "Margins half way [ours]",
        "margin, nats",
        {"margins/mean": "mean", "margins/p10": "10th percentile"},
        "The readout's margin of the likeliest token over the second, half way from noise to text.",
    ),
    Panel(
        "Settled [ours]",
        "share",
        {"margins/agreement": "final already, half way", "margins/settled_time": "mean time of settling"},
        "Tokens that half way are what they end as, and the share of the way after which a token changes no more.",
    ),
    Panel(
        "Roll-in",
        "share of tokens",
        {"rollin/terminal": "last step", "rollin/bayes_error": "no reader could avoid, at the first time"},
        "Flips of one last step from noised real text; the Bayes error belongs to the first time of a whole walk.",
    ),
)


def make_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section with a figure for each panel that any run has logged."""
    made = ReportSection("training", "While it trained")
    made.paragraphs.append(
        "Held-out text and fixed noise, the same at each measurement, so a curve moves only where the model does."
    )
    for run in runs:
        made.missing += missing_results(run)
    for panel in PANELS:
        lines = [line for run in runs for line in run_series(run, panel, len(runs) > 1)]
        if lines:
            for style, line in enumerate(lines):
                line.style = style
            low = None if panel.log_scale or panel.title == "Loss" else 0.0
            up = Axis(panel.unit, "log" if panel.log_scale else "linear", low)
            svg = render_chart(f"{panel.title} over training", Axis("optimizer steps"), up, lines)
            made.figures.append(ReportFigure(panel.title, svg, panel.caption))
    return made


def missing_results(run: RunReport) -> list[MissingResult]:
    """Missing curves of a run."""
    if run.kind == "rounds":
        return []
    if not run.curves:
        return [MissingResult(run.name, "no metrics.csv: nothing was logged", "textflow fit RECIPE")]
    if run.kind != "continuous" or any(name.startswith(DIAGNOSTIC_PREFIXES) for name in run.curves):
        return []
    return [
        MissingResult(
            run.name,
            "no diagnostic watched it; a recipe names them in trainer.callbacks (DABI, Tube, CCI, Stiffness, Margins,"
            " RollIn), and a finished run can be measured",
            f"textflow diagnose {run.folder}",
        )
    ]


def run_series(run: RunReport, panel: Panel, named: bool) -> list[Series]:
    """Curves of a run in a panel; a repeated step keeps its last value."""
    lines = []
    for key, words in panel.labels.items():
        points = downsample(sorted(dict(run.curves.get(key, [])).items()))
        if points:
            lines.append(Series(f"{run.name}: {words}" if named else words, points, markers=len(points) <= 40))
    return lines


def downsample(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS points: means of neighbouring points."""
    size = -(-len(points) // MAX_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)] if size > 1 else [[point] for point in points]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
