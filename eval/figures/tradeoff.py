"""Accuracy, depth and stiffness: what each way pays, in one picture [ours]."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.diagnostics.sample_callbacks import stiffness_of
from textflow.escapes import Commit, Escape, Sharpen, Soft, Tube
from textflow.noise import sample_seeds
from textflow.oracle import WORLDS
from textflow.samplers import Euler, Multistep, Reinject, Relook, Renoise, Sampler

from ..oracle.benchmark import Bench, Cell
from ..oracle.methods import NAMED, Times, fresh
from .source import Source
from .style import MARKS, figure

Found = dict[str, Any]
DEPTHS = (2, 3, 4, 6, 8)
WAYS: dict[str, tuple[Sampler, Escape]] = {
    "ODE, argmax gamma": (Euler(), Soft()),
    "Multistep, argmax gamma": (Multistep(), Soft()),
    "Reinject released 1.5": (Reinject(1.5), Soft()),
    "mode commit": (Renoise(), Commit()),
    "tube commit": (Renoise(1.0, 0.0), Commit(gate=Tube(0.8))),
    "relook: mode": (Relook(0.5), Commit()),
    "relook: sharpened": (Relook(0.0), Sharpen()),
}
CAPTION = (
    "Largest stiffness of a step, |dz'/dz| of the sampler's own map by power iteration (from below; mean over rows),"
    " by the number of network calls; colour: excess KL from triples against true samples. World `chain`, exact"
    " denoiser, flip clock with each method's frozen rates. A commitment is constant between jumps, so its smooth part"
    " is not stiff; the numbers beside the marks count the positions of 32 that jump when z moves by a thousandth of"
    " itself. This picture of the abstract's accuracy-depth-stiffness tradeoff is the project's own [ours]."
)


def numbers(n: int, seed: int, runs: Sequence[Source] = ()) -> Found:
    """Stiffness and accuracy of each way by depth; stiffness alone of runs.

    Args:
        n: texts behind each accuracy; with fewer than 256 the stiffness is that of a single sample.
        seed: of world and samples.
        runs: trained generators with the samplers and escapes of the same names.
    """
    bench = Bench(WORLDS["chain"](fresh(seed)), n, seed)
    rows = [point(bench, name, k, seed) for name in WAYS for k in DEPTHS]
    return {"rows": rows, "runs": [of_run(s, name, k, seed) for s in runs for name in WAYS for k in (2, 4, 8)]}


def point(bench: Bench, name: str, calls: int, seed: int) -> Found:
    """One way at one depth."""
    rows = 4 if bench.n >= 256 else 1
    cell, (sampler, escape) = Cell(bench.world.name, 0, "", "flip", name, calls), WAYS[name]
    times = bench.times(cell, NAMED[name])
    model = bench.world.generator(sampler=sampler, escape=escape, grid=Times(times))
    found, score = (
        stiffness_of(model, sample_seeds(seed + 1, 0, rows), calls, starts=2, iterations=5),
        bench.record(cell, 20),
    )
    said = {"method": name, "K": calls, "times": times, "rows": rows}
    stiff = {"peak": float(found.peak.mean()), "peak_max": float(found.peak.max()), "total": float(found.total.mean())}
    stiff |= {"spread": float(found.spread.max()), "jumps": float(found.jumps.double().sum(0).mean())}
    return said | stiff | {key: score[key] for key in ("xkl3", "xkl2", "dnll", "dh1", "n")}


def of_run(source: Source, name: str, calls: int, seed: int) -> Found:
    """Stiffness of a run's map under one way, on its own grid."""
    model = source.model
    held = model.sampler, model.escape
    model.sampler, model.escape = WAYS[name]
    try:
        found = stiffness_of(model, sample_seeds(seed, 0, 2), calls, starts=1, iterations=4)
    finally:
        model.sampler, model.escape = held
    return {"method": name, "source": source.name, "K": calls, "peak": float(found.peak.mean())}


def draw(found: Found, path: Path, caption: str = CAPTION) -> None:
    """Depth, stiffness and, as colour, accuracy."""
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D

    panels = 2 if found["runs"] else 1
    with figure(path, caption, panels, 7.4, 4.4) as axes:
        axis, scale = (axes[0] if panels == 2 else axes), LogNorm(3e-3, 1.0)
        names = list(dict.fromkeys(row["method"] for row in found["rows"]))
        for i, name in enumerate(names):
            own = [row for row in found["rows"] if row["method"] == name]
            k = [row["K"] * 1.03 ** (i - 3) for row in own]  # side by side
            axis.plot(k, [row["peak"] for row in own], "-", color="#bbbbbb", linewidth=0.8, zorder=1)
            colour = [min(max(row["xkl3"], 3e-3), 1.0) for row in own]
            dots = axis.scatter(
                k, [row["peak"] for row in own], c=colour, norm=scale, cmap="cividis_r", marker=MARKS[i], s=60,
                edgecolors="k", linewidths=0.5, zorder=2,
            )  # fmt: skip
            for x, row in zip(k, own, strict=True):
                if row["jumps"] >= 0.1:
                    word = f"{row['jumps']:.1f}"
                    axis.annotate(word, (x, row["peak"]), (5, 5), textcoords="offset points", fontsize=6)
        depth_axis(axis, "world chain, exact denoiser")
        bar = axis.figure.colorbar(dots, ax=axis, label="xKL3 (nats a token; at most .003: the truth)")
        bar.ax.set_yticks([3e-3, 1e-2, 1e-1, 1], [".003", ".01", ".1", "1"])
        if panels == 2:
            for i, name in enumerate(names):
                own = [row for row in found["runs"] if row["method"] == name]
                axes[1].plot([r["K"] for r in own], [r["peak"] for r in own], "-", marker=MARKS[i], color=f"C{i}")
            depth_axis(axes[1], ", ".join(dict.fromkeys(row["source"] for row in found["runs"])))
        marks = [Line2D([], [], marker=MARKS[i], linestyle="none", mfc="w", mec="k") for i in range(len(names))]
        axis.figure.legend(marks, names, loc="outside upper left", ncols=3, fontsize=8)


def depth_axis(axis: Any, title: str) -> None:
    """Calls against stiffness, both logarithmic."""
    axis.set_xscale("log", base=2)
    axis.set_xticks([2, 3, 4, 6, 8], ["2", "3", "4", "6", "8"])
    axis.set(yscale="log", xlabel="network calls K", ylabel="largest |dz'/dz| of a step (dimensionless)", title=title)
