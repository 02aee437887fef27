"""The diagnostics' curves over training, from a run's metrics.csv."""

import csv
from collections import defaultdict
from pathlib import Path

from textflow.eval.figures.style import figure

Curves = dict[str, list[tuple[int, float]]]
PANELS = (
    ("DABI [ours]", "ratio", ("dabi/ce", "dabi/flip")),
    (
        "flips at the last time before the text",
        "share of tokens",
        ("tube/observed", "tube/predicted", "dabi/isotropic"),
    ),
    ("stiffness [ours]", "spectral norm", ("stiffness/peak", "stiffness/total")),
)


def curves(metrics: Path, path: Path) -> bool:
    """Draw the curves that are there; False if there is none.

    Args:
        metrics: metrics.csv of a run.
        path: of the figure, without a suffix.
    """
    found = read(metrics)
    panels = [panel for panel in PANELS if any(name in found for name in panel[2])]
    if not panels:
        return False
    caption = f"Logged by the callbacks while {metrics.parent.name} trained; held-out text, fixed noise."
    with figure(path, caption, len(panels), width=3.6) as drawn:
        for axis, (title, unit, names) in zip([drawn] if len(panels) == 1 else drawn, panels, strict=True):
            for name in names:
                if name in found:
                    axis.plot(*zip(*found[name], strict=True), "o-", label=name)
            axis.set(title=title, xlabel="optimizer steps", ylabel=unit)
            axis.set_ylim(bottom=0)
            axis.legend()
    return True


def read(metrics: Path) -> Curves:
    """(step, value) by name."""
    found: Curves = defaultdict(list)
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["name"]].append((int(row["step"]), float(row["value"])))
    return found
