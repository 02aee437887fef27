"""Curves over training: what the callbacks logged."""

from collections.abc import Sequence
from typing import NamedTuple

from .axis import Axis
from .chart import Line, chart
from .folder import Run
from .section import Missing, Picture, Section

MOST = 300  # points of a line; longer ones show means of neighbours
WATCHED = ("dabi/", "tube/", "cci", "stiffness/", "margins/", "rollin/")


class Panel(NamedTuple):
    """A picture of some curves.

    Args:
        title: of it.
        unit: of the axis.
        names: what a curve is called, by its name in metrics.csv.
        words: what it means.
        log: whether the axis is logarithmic.
    """

    title: str
    unit: str
    names: dict[str, str]
    words: str
    log: bool = False


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
            "dabi/structured": "along the error",
            "dabi/isotropic": "random directions",
        },
        "Tokens that change when real text is noised to the last time before the text and the denoiser's guess is read."
        " The tube law, sqrt(2/pi) s A, predicts them from how many latents lie near a boundary (2606.30705).",
    ),
    Panel(
        "CCI [ours]",
        "share of pairs",
        {"cci": "samples"},
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
        "lead, nats",
        {"margins/lead": "mean", "margins/lead_low": "10th percentile"},
        "The readout's lead of the likeliest token over the second, half way from noise to text.",
    ),
    Panel(
        "Settled [ours]",
        "share",
        {"margins/agrees": "final already, half way", "margins/settled": "mean time of settling"},
        "Tokens that half way are what they end as, and the share of the way after which a token changes no more.",
    ),
    Panel(
        "Roll-in",
        "share of tokens",
        {"rollin/terminal": "last step", "rollin/floor": "no reader could avoid, at the first time"},
        "Flips of one last step from noised real text; the floor belongs to the first time of a whole walk.",
    ),
)


def section(runs: Sequence[Run]) -> Section:
    """A picture for each panel that any run has."""
    made = Section("training", "While it trained")
    made.words.append(
        "Held-out text and fixed noise, the same at each measurement, so a curve moves only where the model does."
    )
    for run in runs:
        made.missing += lacking(run)
    for panel in PANELS:
        lines = [line for run in runs for line in of_run(run, panel, len(runs) > 1)]
        if lines:
            for style, line in enumerate(lines):
                line.style = style
            low = None if panel.log or panel.title == "Loss" else 0.0
            up = Axis(panel.unit, "log" if panel.log else "linear", low)
            svg = chart(f"{panel.title} over training", Axis("optimizer steps"), up, lines)
            made.pictures.append(Picture(panel.title, svg, panel.words))
    return made


def lacking(run: Run) -> list[Missing]:
    """What a run has not logged."""
    if run.kind == "rounds":
        return []
    if not run.curves:
        return [Missing(run.name, "no metrics.csv: nothing was logged", "textflow fit RECIPE")]
    if run.kind != "continuous" or any(name.startswith(WATCHED) for name in run.curves):
        return []
    return [
        Missing(
            run.name,
            "no diagnostic watched it; a recipe names them in trainer.callbacks (DABI, Tube, CCI, Stiffness, Margins,"
            " RollIn), and a finished run can be measured",
            f"textflow diagnose {run.folder}",
        )
    ]


def of_run(run: Run, panel: Panel, named: bool) -> list[Line]:
    """The curves of a run in a panel; steps that were done twice count once, the last time."""
    lines = []
    for key, words in panel.names.items():
        points = thinned(sorted(dict(run.curves.get(key, [])).items()))
        if points:
            lines.append(Line(f"{run.name}: {words}" if named else words, points, marked=len(points) <= 40))
    return lines


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST points: means of neighbours."""
    size = -(-len(points) // MOST)
    groups = [points[i : i + size] for i in range(0, len(points), size)] if size > 1 else [[point] for point in points]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
