"""Diagnostic curves over training, from a run's metrics.csv."""

from pathlib import Path

from ..report.folder import load_curves as read
from .style import figure

PANELS = (
    ("DABI [ours]", "ratio", ("dabi/ce", "dabi/flip")),
    (
        "flips at the last time before the text",
        "share of tokens",
        ("tube/observed", "tube/predicted", "dabi/isotropic"),
    ),
    ("stiffness [ours]", "spectral norm", ("stiffness/peak", "stiffness/total")),
)


def draw_curves(metrics: Path, path: Path) -> bool:
    """Draw the logged curves; return False if there are none.

    Args:
        metrics: metrics.csv of a run.
        path: figure path without a suffix.
    """
    broken: list[str] = []
    curves = read(metrics, broken)
    panels = [panel for panel in PANELS if any(name in curves for name in panel[2])]
    if not panels:
        return False
    caption = f"Logged by the callbacks while {metrics.parent.name} trained; held-out text, fixed noise."
    caption += "".join(f" {line}." for line in broken)
    with figure(path, caption, len(panels), width=3.6) as drawn:
        for axis, (title, unit, names) in zip([drawn] if len(panels) == 1 else drawn, panels, strict=True):
            for name in names:
                if name in curves:
                    axis.plot(*zip(*curves[name], strict=True), "o-", label=name)
            axis.set(title=title, xlabel="optimizer steps", ylabel=unit)
            axis.set_ylim(bottom=0)
            axis.legend()
    return True
