"""One style for all figures: colours that the colour-blind can tell apart, units on axes, PNG and SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
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


@contextmanager
def figure(path: Path, caption: str, columns: int = 1, width: float = 4.6, height: float = 3.4) -> Iterator[Any]:
    """Axes to draw on; saved as path.png and path.svg with the caption below.

    Args:
        path: without a suffix.
        caption: what is shown and by which protocol.
        columns: axes side by side.
        width: of one, inches.
        height: inches.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS | {"axes.prop_cycle": cycler(color=COLOURS)}):
        drawn = Figure(figsize=(width * columns, height), layout="constrained")
        axes = drawn.subplots(1, columns, squeeze=False)[0]
        yield axes[0] if columns == 1 else axes
        drawn.supxlabel(wrapped(caption, int(width * columns * 17)), fontsize=7, color="#444444", x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path.with_suffix(".png"))
        drawn.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def wrapped(text: str, width: int) -> str:
    """Lines of at most so many characters."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
