"""The diagnostics' curves over training, from a run's metrics.csv."""

from pathlib import Path

from ..report.folder import curves as read
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


def curves(metrics: Path, path: Path) -> bool:
    """Draw the curves that are there; False if there is none.

    Args:
        metrics: metrics.csv of a run.
        path: of the figure, without a suffix.
    """
    broken: list[str] = []
    found = read(metrics, broken)
    panels = [panel for panel in PANELS if any(name in found for name in panel[2])]
    if not panels:
        return False
    caption = f"Logged by the callbacks while {metrics.parent.name} trained; held-out text, fixed noise."
    caption += "".join(f" {line}." for line in broken)
    with figure(path, caption, len(panels), width=3.6) as drawn:
        for axis, (title, unit, names) in zip([drawn] if len(panels) == 1 else drawn, panels, strict=True):
            for name in names:
                if name in found:
                    axis.plot(*zip(*found[name], strict=True), "o-", label=name)
            axis.set(title=title, xlabel="optimizer steps", ylabel=unit)
            axis.set_ylim(bottom=0)
            axis.legend()
    return True
