"""Diagnostic curves over training, from a run's metrics.csv."""

from pathlib import Path

from ..report.folder import load_curves
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
    """Draw the curves logged in a run's metrics.csv to `path` (without a suffix); return False if there are none."""
    errors: list[str] = []
    curves = load_curves(metrics, errors)
    panels = [panel for panel in PANELS if any(name in curves for name in panel[2])]
    if not panels:
        return False
    caption = f"Logged by the callbacks during training of {metrics.parent.name}; held-out text, fixed noise."
    caption += "".join(f" {error}." for error in errors)
    with figure(path, caption, len(panels), width=3.6) as axes:
        for axis, (title, unit, names) in zip([axes] if len(panels) == 1 else axes, panels, strict=True):
            for name in names:
                if name in curves:
                    axis.plot(*zip(*curves[name], strict=True), "o-", label=name)
            axis.set(title=title, xlabel="optimizer steps", ylabel=unit)
            axis.set_ylim(bottom=0)
            axis.legend()
    return True
