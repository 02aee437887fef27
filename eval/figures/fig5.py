"""Fig. 5: separated modes, minimum missed mass and minimum stiffness of a smooth map [rebuilt]."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.noise import Noise
from textflow.oracle.coarea import CurvedInterface, coarea
from textflow.oracle.separated import (
    balanced_cells,
    box_perimeter,
    crofton_perimeter,
    factorisation_gain,
    isoperimetric_bound,
    log_log_slope,
    missed_mass,
    simplex_perimeter,
)

from .source import FigureInput
from .style import MARKERS, PUBLISHED_STYLE, Record, figure

STIFFNESS = (2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
SIMPLEX_MODES = (2, 3, 4, 8, 16)
PERIMETER_MODES = (2, 4, 8, 16, 64, 256, 1024, 4096, 65536)
SLABS_PER_AXIS = (8, 12, 16, 24, 32)
PUBLISHED = {"slope of missed mass over stiffness": (-0.97, -0.90), "law of the perimeter": "sqrt(log M)"}
CAPTION = (
    "A map of Lipschitz constant Λ from Gaussian noise to M equal modes with gaps κ. (a) Theorem 5: mass left between"
    " simplex modes, exact, and its slopes for Λ/κ = 2 to 16 beside the published -.90 to -.97. (b) Theorem 6:"
    " perimeter of the partition; simplex cells grow as √(log M) once the dimension allows it, boxes in n dimensions"
    " as M^(1/n), random balanced Voronoi cells in 256 dimensions follow the simplex. (c) Theorem 7: one map to M ="
    " 4096 modes against B maps to M^(1/B), at least √B steeper. (d) Theorem 17: density of the bent margin at the"
    " boundary in the plane, sampled (95 % interval), by the coarea integral, and the bound P/Λ, P the perimeter. The"
    " paper's text is not public: constructions, constants and panels are the project's reconstruction [rebuilt]."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """Laws of the separated regime. `num_texts` n: 2 n lines per perimeter, 4000 n samples for the coarea formula."""
    mass = {str(m): missed_mass(m, STIFFNESS).tolist() for m in SIMPLEX_MODES}
    boxes = {str(k): [(float(m**k), box_perimeter(m, k)) for m in SLABS_PER_AXIS] for k in (1, 2, 3, 4)}
    random = {m: balanced_cells(m, 256, Noise([seed])) for m in (16, 64, 256)}
    cells = [(m, *crofton_perimeter(each, Noise([seed + 1]), max(num_texts // 2, 64))) for m, each in random.items()]
    density = coarea(CurvedInterface(), Noise([seed]), num_samples=min(4000 * num_texts, 2_000_000))
    parts = [1, 2, 3, 4, 6]
    return {
        "missed": {"stiffness": list(STIFFNESS), "mass": mass},
        "slopes": {m: log_log_slope(STIFFNESS, y) for m, y in mass.items()},
        "perimeter": {
            "modes": list(PERIMETER_MODES),
            "simplex": simplex_perimeter(PERIMETER_MODES).tolist(),
            "bound": isoperimetric_bound(PERIMETER_MODES).tolist(),
            "boxes": boxes,
            "box_slopes": {k: log_log_slope([m for m, _ in y], [p for _, p in y]) for k, y in boxes.items()},
            "voronoi": cells,
        },
        "blocks": {"modes": 4096, "parts": parts, "ratio": factorisation_gain(4096, parts).tolist()},
        "coarea": {"sampled": list(density.monte_carlo), "integral": density.integral, "bound": density.bound},
    }


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Missed mass, perimeter, gain of depth and coarea formula."""
    with figure(path, caption, 2, 5.6, 3.6, rows=2) as (mass, edge, depth, tube):
        x = results["missed"]["stiffness"]
        for i, (m, y) in enumerate(results["missed"]["mass"].items()):
            mass.plot(x, y, "-", marker=MARKERS[i], ms=4, label=f"M = {m}: slope {results['slopes'][m]:.3f}")
        for power, style in ((-0.90, (0, (4, 2))), (-0.97, (0, (1, 1)))):
            parallel = [0.9 * (v / x[0]) ** power for v in x]
            mass.plot(x, parallel, **PUBLISHED_STYLE | {"linestyle": style}, label=f"published: {power}")
        mass.set(xlabel="stiffness Λ/κ (dimensionless)", ylabel="missed mass", title="(a)")
        mass.loglog()
        mass.set_xticks([2, 4, 8, 16], ["2", "4", "8", "16"])
        mass.minorticks_off()
        draw_perimeter(edge, results["perimeter"])
        draw_blocks(depth, results["blocks"])
        draw_coarea(tube, results["coarea"])
        for axis in (mass, edge, depth):
            axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7.5)


def draw_perimeter(axis: Any, perimeter: Record) -> None:
    """Perimeter against the number of modes."""
    modes = perimeter["modes"]
    axis.plot(modes, perimeter["simplex"], "-o", ms=4, label="simplex, n >= M - 1")
    axis.plot(modes, perimeter["bound"], ":", color="C0", label="isoperimetric bound")
    axis.plot(modes, [math.sqrt(math.log(m)) for m in modes], **PUBLISHED_STYLE, label="published law: √(log M)")
    m, p, error = zip(*perimeter["voronoi"], strict=True)
    axis.errorbar(m, p, yerr=[1.96 * e for e in error], fmt="k*", label="random cells, n = 256")
    for i, (n, boxes) in enumerate(perimeter["boxes"].items(), 1):
        name = f"boxes, n = {n}: slope {perimeter['box_slopes'][n]:.3f}"
        axis.plot(*zip(*boxes, strict=True), "--", marker=MARKERS[i], ms=3, color=f"C{i}", label=name)
    axis.set(xscale="log", yscale="log", xlabel="modes M", ylabel="perimeter P (weighted by φ)", title="(b)")


def draw_blocks(axis: Any, blocks: Record) -> None:
    """Gain of depth."""
    parts = blocks["parts"]
    axis.plot(parts, blocks["ratio"], "-o", label="S(M) / S(M^(1/B)), exact")
    axis.plot(parts, [math.sqrt(b) for b in parts], **PUBLISHED_STYLE, label="published: √B")
    axis.set(xlabel="blocks B", ylabel="stiffness of one map / of a block", title=f"(c) M = {blocks['modes']}")
    axis.set_xticks(parts)
    axis.set_ylim(bottom=0)


def draw_coarea(axis: Any, density: Record) -> None:
    """Three estimates of one density."""
    value, error = density["sampled"]
    axis.errorbar([0], [value], yerr=[1.96 * error], fmt="o", capsize=4)
    axis.plot([1], [density["integral"]], "s", color="C1")
    axis.plot([2], [density["bound"]], "^", color="C2")
    axis.set(ylabel="density at the boundary (1 / unit)", title="(d)", xlim=(-0.6, 2.6), ylim=(0, 1.25 * value))
    axis.set_xticks([0, 1, 2], ["sampled", "coarea integral", "bound P/Λ"])
