"""Tradeoff of accuracy, depth and stiffness by method [ours]."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.diagnostics.sample_callbacks import generator_stiffness
from textflow.escapes import Commit, Escape, LowConfidence, NoEscape, Sharpen
from textflow.models.generation import sampled_by
from textflow.noise import sample_seeds
from textflow.oracle import ORACLE_TASKS
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, LowNoiseResample, Reinject, Sampler

from ..oracle.benchmark import EvalPoint, OracleBenchmark
from ..oracle.methods import METHODS_BY_NAME, FixedGrid, fresh_seed
from .source import FigureInput
from .style import MARKERS, Record, figure

DEPTHS = (2, 3, 4, 6, 8)
SAMPLING_METHODS: dict[str, tuple[Sampler, Escape]] = {
    "ODE, argmax gamma": (Euler(), NoEscape()),
    "DPM-Solver++(2M), argmax gamma": (DPMSolverPP2M(), NoEscape()),
    "Reinject code 1.5": (Reinject(1.5), NoEscape()),
    "mode commit": (Ancestral(), Commit()),
    "tube commit": (Ancestral(1.0, 0.0), Commit(gate=LowConfidence(0.8))),
    "low-noise: mode": (LowNoiseResample(0.5), Commit()),
    "low-noise: sharpened": (LowNoiseResample(0.0), Sharpen()),
}
CAPTION = (
    "Largest stiffness of a step, |dz'/dz| of the sampler's own map by power iteration (from below; mean over rows),"
    " by the number of network calls; colour: excess KL from triples against true samples. Oracle task `chain`, exact"
    " denoiser, each method's own frozen flip rates. A commitment is constant between jumps, so its smooth part is not"
    " stiff; the numbers at the markers count the positions of 32 that jump when z changes by a thousandth of its"
    " length. On a run whose path is not straight, re-injection keeps the path's marginal. This figure of the"
    " abstract's accuracy-depth-stiffness tradeoff is the project's own [ours]."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """Stiffness and accuracy of each method by depth, from one sample below 256 texts; for runs only stiffness."""
    bench = OracleBenchmark(ORACLE_TASKS["chain"](fresh_seed(seed)), num_texts, seed)
    rows = [measure_point(bench, name, k, seed) for name in SAMPLING_METHODS for k in DEPTHS]
    runs = [measure_run(source, name, k, seed) for source in inputs for name in SAMPLING_METHODS for k in (2, 4, 8)]
    return {"rows": rows, "runs": runs}


def measure_point(benchmark: OracleBenchmark, name: str, nfe: int, seed: int) -> Record:
    """Accuracy and stiffness of one method at one depth."""
    rows = 4 if benchmark.num_texts >= 256 else 1
    point, (sampler, escape) = EvalPoint(benchmark.task.name, 0, "", "flip", name, nfe), SAMPLING_METHODS[name]
    times = benchmark.time_grid(point, METHODS_BY_NAME[name])
    model = benchmark.task.make_generator(sampler=sampler, escape=escape, sampling_schedule=FixedGrid(times))
    stiffness = generator_stiffness(model, sample_seeds(seed + 1, 0, rows), nfe, num_starts=2, num_iterations=5)
    score = benchmark.record(point, 20)
    return {
        **{"method": name, "K": nfe, "times": times, "rows": rows},
        "peak": float(stiffness.peak.mean()),
        "peak_max": float(stiffness.peak.max()),
        "total": float(stiffness.total_norm.mean()),
        "step_spread": float(stiffness.step_spread.max()),
        "num_jumps": float(stiffness.num_jumps.double().sum(0).mean()),
        **{key: score[key] for key in ("xkl3", "xkl2", "dnll", "dh1", "n")},
    }


def measure_run(source: FigureInput, name: str, nfe: int, seed: int) -> Record:
    """Stiffness of a run's map under one method, on its own grid."""
    with sampled_by(source.model, *SAMPLING_METHODS[name]):
        stiffness = generator_stiffness(source.model, sample_seeds(seed, 0, 2), nfe, num_starts=1, num_iterations=4)
    return {"method": name, "source": source.name, "K": nfe, "peak": float(stiffness.peak.mean())}


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Depth, stiffness and, as colour, accuracy."""
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D

    panels = 2 if results["runs"] else 1
    with figure(path, caption, panels, 7.4, 4.4) as axes:
        axis, scale = (axes[0] if panels == 2 else axes), LogNorm(3e-3, 1.0)
        names = list(dict.fromkeys(row["method"] for row in results["rows"]))
        for i, name in enumerate(names):
            own = [row for row in results["rows"] if row["method"] == name]
            k = [row["K"] * 1.03 ** (i - 3) for row in own]  # side by side
            axis.plot(k, [row["peak"] for row in own], "-", color="#bbbbbb", linewidth=0.8, zorder=1)
            colour = [min(max(row["xkl3"], 3e-3), 1.0) for row in own]
            dots = axis.scatter(
                k, [row["peak"] for row in own], c=colour, norm=scale, cmap="cividis_r", marker=MARKERS[i], s=60,
                edgecolors="k", linewidths=0.5, zorder=2,
            )  # fmt: skip
            for x, row in zip(k, own, strict=True):
                if row["num_jumps"] >= 0.1:
                    label = f"{row['num_jumps']:.1f}"
                    axis.annotate(label, (x, row["peak"]), (5, 5), textcoords="offset points", fontsize=6)
        format_axis(axis, "world chain, exact denoiser")
        bar = axis.figure.colorbar(dots, ax=axis, label="xKL3 (nats per token; at most .003: the truth)")
        bar.ax.set_yticks([3e-3, 1e-2, 1e-1, 1], [".003", ".01", ".1", "1"])
        if panels == 2:
            for i, name in enumerate(names):
                own = [row for row in results["runs"] if row["method"] == name]
                axes[1].plot([r["K"] for r in own], [r["peak"] for r in own], "-", marker=MARKERS[i], color=f"C{i}")
            format_axis(axes[1], ", ".join(dict.fromkeys(row["source"] for row in results["runs"])))
        marks = [Line2D([], [], marker=MARKERS[i], linestyle="none", mfc="w", mec="k") for i in range(len(names))]
        axis.figure.legend(marks, names, loc="outside upper left", ncols=3, fontsize=8)


def format_axis(axis: Any, title: str) -> None:
    """Calls against stiffness, both logarithmic."""
    axis.set_xscale("log", base=2)
    axis.set_xticks([2, 3, 4, 6, 8], ["2", "3", "4", "6", "8"])
    axis.set(yscale="log", xlabel="network calls K", ylabel="largest |dz'/dz| of a step (dimensionless)", title=title)
