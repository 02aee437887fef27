"""Ranking of samplers and escapes, as tables and a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..oracle.verdict import ENTROPY_TOLERANCE, XKL3_FLOOR
from .style import MARKERS, PUBLISHED_STYLE, Record, figure, shared_legend

GRID_LABELS = {"none": "", "tuned": "tuned LogitNormal", "flip": "flip rate", "elf": "ELF's LogitNormal(-1.5, .8)"}
MEASURE_TITLES = {
    "xkl3": "xKL3, nats per token above true texts, from triples (0 is the truth; lower is better)",
    "xkl2": "xKL2, the same from pairs",
    "dnll": "dNLL, nats per token above true texts (below 0: too likely)",
    "dh1": "dH1, entropy of tokens above that of true texts, nats",
    "illegal": "share of transitions that occur in the oracle task only by smoothing",
}
FIGURE_METHODS = (
    ("tuned", "ODE, read(x_hat)"),
    ("tuned", "ODE, argmax gamma"),
    ("tuned", "DPM-Solver++(2M), argmax gamma"),
    ("tuned", "Reinject code .5"),
    ("none", "masked, dilated"),
    ("tuned", "sampled commit"),
    ("flip", "mode commit"),
    ("flip", "low-noise: mode"),
    ("flip", "low-noise: sharpened, logit-adjusted"),
    ("flip", "skip_first + low-noise: mode"),
)
CAPTION = (
    "Excess KL from triples against true samples of the same size, mean over fresh oracle tasks; K counts network"
    " calls. Tuned grids and flip rates were frozen on other tasks. Bars: 95 % intervals over texts, too wide near the"
    " truth; grey: not distinguishable from the truth, the interval of the joint readout, which is exact at any K; for"
    " entropy .05 nats. Right: each method at K = 4 by denoiser and grid, points left of .001 at .001. Tasks, measure"
    " and all methods but the ODE and re-injection are the project's own [ours]; the paper has no such table."
)


def make_table(rows: Sequence[Record], measure: str, corruption: str = "", num_tasks: int = 0) -> Table:
    """Table of one measure for all methods by number of calls, grouped by grid.

    Args:
        rows: rows from `mean_records`.
        measure: xkl3, xkl2, dnll, dh1 or illegal.
        corruption: name of the imperfect denoiser; empty: the exact one.
        num_tasks: number of oracle tasks for the title; 0: omit it.
    """
    own = [row for row in rows if row["corruption"] == corruption]
    calls = sorted({row["nfe"] for row in own})
    prefix = f"{corruption}: " if corruption else f"mean of {num_tasks} tasks, ± over tasks: " if num_tasks else ""
    table = Table(title=prefix + MEASURE_TITLES[measure], title_justify="left", box=SIMPLE_HEAD)
    for name in ("method", "grid"):
        table.add_column(name, no_wrap=True)
    for k in calls:
        table.add_column(f"K = {k}", justify="right", no_wrap=True)
    cells = {(row["grid"], row["method"], row["nfe"]): format_cell(row, measure) for row in own}
    order = list(GRID_LABELS)
    for grid, method in sorted(dict.fromkeys(key[:2] for key in cells), key=lambda key: order.index(key[0])):
        table.add_row(method, grid_label(grid), *(cells.get((grid, method, k), "-") for k in calls))
    return table


def grid_label(grid: str) -> str:
    """Name of a grid without its parameters."""
    return GRID_LABELS[grid].split("(")[0]


def format_cell(row: Record, measure: str) -> str:
    """Number with half the width of its 95 % interval."""
    side = f"±{row[f'{measure}_side']:.3f}".replace("0.", ".") if f"{measure}_side" in row else ""
    return f"{row[measure]:.3f}".replace("0.", ".", 1) + side + ("*" if row["collapsed"] else "")


def format_verdict(name: str, verdict: Record) -> str:
    """One-line verdict on a method, from the result of `commitment_verdict`."""
    commit, reinject = verdict["commit"], verdict["reinject"]
    bound = "over " if commit["xkl3"] < XKL3_FLOOR else ""
    r = {rival: f"{bound}{ratio:.1f}" for rival, ratio in verdict["ratio"].items()}
    method = f"{commit['method']}, " if commit["method"] != name else ""
    preserving = r.get("entropy_preserving", "")
    if preserving:
        preserving = f"; {preserving} below the best with |dH1| <= {ENTROPY_TOLERANCE}"
    return (
        f"K = 4, mean of {verdict['num_tasks']} tasks, {name} ({method}{grid_label(commit['grid'])}), each"
        f" method on its best grid: xKL3 {commit['xkl3']:.4f} is {r['ode']} times below the ODE's"
        f" {verdict['ode']['xkl3']:.4f} (argmax gamma: {r['argmax']})"
        f" and {r['reinject']} below the best re-injection's {reinject['xkl3']:.4f}"
        f" ({reinject['method']}, dH1 {reinject['dh1']:+.3f}{preserving}); dH1 {verdict['dh1']:+.3f}."
        f" Needed: 3, 2 and |dH1| <= {ENTROPY_TOLERANCE}: {'holds' if verdict['holds'] else 'does NOT hold'}"
    )


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """xKL3 and entropy by calls; other grids and imperfect denoisers at 4 calls."""
    rows = results["means"]
    ticks = sorted({row["nfe"] for row in rows})
    with figure(path, caption, 3, 5.4, 4.3) as (calls, entropy, grids):
        for i, (grid, method) in enumerate(FIGURE_METHODS):
            own = [r for r in rows if (r["grid"], r["method"], r["corruption"]) == (grid, method, "")]
            label = f"{method} ({grid})" if grid != "none" else method
            style = {"color": f"C{i % 7}", "marker": MARKERS[i], "linestyle": "-" if i < 7 else ":"}
            for axis, key in ((calls, "xkl3"), (entropy, "dh1")):
                x, y, sides = [r["nfe"] for r in own], [r[key] for r in own], [r.get(f"{key}_side", 0) for r in own]
                axis.errorbar(x, y, yerr=sides, ms=5, capsize=2, label=label, **style)
        joint = [row for row in rows if row["method"].startswith("joint") and not row["corruption"]]
        noise = max(row.get("xkl3_side", 0.0) for row in joint)
        calls.axhspan(-noise, noise, color=PUBLISHED_STYLE["color"], alpha=0.15, linewidth=0)
        calls.set_yscale("symlog", linthresh=1e-2, linscale=0.6)
        calls.set_yticks([0, 0.01, 0.1, 1], ["0", ".01", ".1", "1"])
        calls.set(ylabel="xKL3 (nats per token)", title="exact denoiser: distance from the truth", ylim=(-0.02, 2))
        entropy.axhspan(-0.05, 0.05, color=PUBLISHED_STYLE["color"], alpha=0.15, linewidth=0)
        entropy.set(ylabel="dH1 (nats)", title="exact denoiser: entropy less the true one")
        for axis in (calls, entropy):
            axis.set_xscale("log", base=2)
            axis.minorticks_off()
            axis.set_xticks(ticks, [str(k) for k in ticks])
            axis.set_xlabel("network calls K")
        draw_conditions(grids, rows)
        shared_legend(calls, location="outside upper left", columns=5)


def draw_conditions(axis: Any, rows: Sequence[Record], calls: int = 4) -> None:
    """Methods at 4 calls under every denoiser and grid."""
    conditions = list(dict.fromkeys((r["corruption"], r["grid"]) for r in rows if r["grid"] != "none"))
    names = ["ODE, argmax gamma", "Reinject code 1.5", "mode commit", "tube commit", "low-noise: mode, logit-adjusted"]
    names.append("low-noise: sharpened, logit-adjusted")
    for i, name in enumerate(names):
        at = {(r["corruption"], r["grid"]): r for r in rows if r["method"] == name and r["nfe"] == calls}
        points = [(y + 0.12 * (i - 2.5), at[condition]) for y, condition in enumerate(conditions) if condition in at]
        x, y = [max(r["xkl3"], 1e-3) for _, r in points], [y for y, _ in points]
        axis.plot(x, y, linestyle="none", marker=MARKERS[i], color=f"C{i}", ms=5, label=name)
    labels = [f"{corruption or 'exact'}\n{grid_label(grid)}" for corruption, grid in conditions]
    axis.set_yticks(range(len(conditions)), labels, fontsize=7.5)
    axis.set(xscale="log", xlabel="xKL3 (nats per token; below .001: the truth)", title=f"K = {calls}")
    axis.set_ylim(len(conditions) - 0.5, -0.5)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7.5)
