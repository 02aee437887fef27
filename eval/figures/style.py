"""One style for all figures: colours that the colour-blind can tell apart, units on axes, PNG and SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
SETTINGS: dict[Any, Any] = {
    "figure.dpi": 120,
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "textflow",  # the same numbers give the same file
}
PAPER: dict[str, Any] = {"color": "#555555", "linestyle": (0, (4, 2)), "linewidth": 1.2, "zorder": 0.5}  # published


@contextmanager
def figure(
    path: Path, caption: str, columns: int = 1, width: float = 4.6, height: float = 3.4, rows: int = 1
) -> Iterator[Any]:
    """Axes to draw on; saved as path.png and path.svg with the caption below.

    Args:
        path: without a suffix.
        caption: what is shown and by which protocol.
        columns: axes side by side.
        width: of one, inches.
        height: of one, inches.
        rows: of axes.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS | {"axes.prop_cycle": cycler(color=COLOURS)}):
        drawn = Figure(figsize=(width * columns, height * rows), layout="constrained")
        axes = drawn.subplots(rows, columns, squeeze=False).flatten()
        yield axes[0] if len(axes) == 1 else axes
        drawn.supxlabel(wrapped(caption, int(width * columns * 17)), fontsize=7, color="#444444", x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path.with_suffix(".png"))
        drawn.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def legend(*axes: Any, side: str = "outside right upper", columns: int = 1) -> None:
    """One legend for all axes, outside their data; a name that several of them use is said once.

    Args:
        axes: of one figure.
        side: matplotlib's place: outside right upper, outside upper center, ...
        columns: of the legend.
    """
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    axes[0].figure.legend(found.values(), found.keys(), loc=side, fontsize=8, ncols=columns)


def wrapped(text: str, width: int) -> str:
    """Lines of at most so many characters."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
