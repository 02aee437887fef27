"""Common figure style: colour-blind-safe colours, units on axes, PNG and SVG output."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

Record = dict[str, Any]
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
RC_PARAMS: dict[Any, Any] = {
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
PUBLISHED_STYLE: Record = {"color": "#555555", "linestyle": (0, (4, 2)), "linewidth": 1.2, "zorder": 0.5}


@contextmanager
def figure(
    path: Path,
    caption: str,
    columns: int = 1,
    width: float = 4.6,
    height: float = 3.4,
    rows: int = 1,
    caption_color: str = "#444444",
) -> Iterator[Any]:
    """Axes to draw on; saved as path.png and path.svg with the caption below.

    Args:
        path: figure path without a suffix.
        caption: caption below the axes, with the protocol.
        columns: number of columns of axes.
        width: width of one axes, inches.
        height: height of one axes, inches.
        rows: number of rows of axes.
        caption_color: colour of the caption.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC_PARAMS | {"axes.prop_cycle": cycler(color=COLORS)}):
        canvas = Figure(figsize=(width * columns, height * rows), layout="constrained")
        axes = canvas.subplots(rows, columns, squeeze=False).flatten()
        yield axes[0] if len(axes) == 1 else axes
        canvas.supxlabel(fill(caption, int(width * columns * 17)), fontsize=7, color=caption_color, x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path.with_suffix(".png"))
        canvas.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def shared_legend(*axes: Any, location: str = "outside right upper", columns: int = 1) -> None:
    """One legend for all axes of a figure, outside their data, with each name listed once."""
    handles: Record = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    axes[0].figure.legend(handles.values(), handles.keys(), loc=location, fontsize=8, ncols=columns)
