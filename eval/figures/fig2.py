"""Fig. 2: a decoder hears the denoiser's own residual far louder than noise of the same length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.bootstrap import Ratio, joined
from textflow.diagnostics.dabi import FACTORS, respond, smooth, summary
from textflow.diagnostics.decoder_temperature import heated
from textflow.diagnostics.perturbation import Read
from textflow.noise import Noise

from .source import Source, named
from .style import MARKS, PAPER, figure, legend

Found = dict[str, Any]
DEPTHS = (4, 8, 16)
HEAT = (0.25, 1.0, 16.0)
PUBLISHED = {
    "45.7, CE at f = 1": (45.7, 45.7),
    "21.2": (21.2, 21.2),
    "10 to 33": (10.0, 33.0),
    "5e2 to > 1e5, text": (5e2, 1e5),
    "about 1, images": (1.0, 1.0),
    "onset of flips, f": (0.8, 0.8),
}
CAPTION = (
    "Response of the readout to x + f r, r = E[x | z_t] - x the denoiser's residual at the last interior time of K ="
    " 8 steps (of ELF's grid; of a run's own), and to random directions as long (norm matched a position, all"
    " positions at once). DABI is the ratio of the two; this formula is the project's reconstruction [ours], chosen"
    " because the paper's 45.7 belongs to the cross-entropy at f = 1; its range 5e2 to 1e5 does not contain 45.7, so"
    " another perturbation or f lies behind it. Bars: 95 % intervals by the bootstrap over sequences. A heated decoder"
    " moves the DABI of losses and no flip. The smooth decoder is random and linear, a stand-in for images."
)


def numbers(n: int, seed: int, runs: Sequence[Source] = ()) -> Found:
    """Responses by length and DABI by depth, of the world `text` and of runs.

    Args:
        n: texts.
        seed: of world, texts and noise.
        runs: trained generators with their own text.
    """
    sources = [named("text", n, seed), *runs]
    sweeps = {source.name: [response(source, 8, f) for f in FACTORS] for source in sources}
    depths = {source.name: [response(source, k, 1.0) for k in DEPTHS] for source in sources}
    heats = [{"temperature": h} | response(sources[0], 8, 1.0, h) for h in HEAT]
    return {"sweep": sweeps, "depth": depths, "heat": heats, "smooth": said(blurred(sources[0]))}


def response(source: Source, steps: int, f: float, heat: float = 1.0, draws: int = 4) -> Found:
    """Both ratios and what they are ratios of, at the last interior time of a grid."""
    t, parts = source.model.grid.grid(steps)[-2], []
    for seen, met, noise in source.terminals(t):
        parts.append(respond(hot(seen.read, heat), seen.x, met.guess, seen.mask, noise, f, draws))
    made = summary(joined(parts), f, draws, seed=source.seed)
    size = {"K": steps, "t": t, "f": f, "positions": made.size.positions, "sequences": made.size.sequences}
    return size | {"draws": draws, "ce": said(made.loss), "flip": said(made.flip)}


def hot(read: Read, heat: float) -> Read:
    """A readout at a temperature."""
    return lambda z: heated(read(z), heat)


def blurred(source: Source) -> Ratio:
    """DABI of a random linear decoder of the same residuals."""
    seen, met, noise = next(source.terminals(source.model.grid.grid(8)[-2]))
    wide = Noise([source.seed]).normal(seen.x.shape[-1], 4 * seen.x.shape[-1])[0]
    return smooth(lambda z: z @ wide, seen.x, met.guess, seen.mask, noise)


def said(ratio: Ratio) -> Found:
    """A ratio with its interval; only a lower bound where no more is known."""
    bounded = {"value": ratio.value if ratio.measured else None, "low": ratio.low}
    high = ratio.high if ratio.high < torch.inf else None
    return bounded | {"high": high, "along": ratio.numerator, "random": ratio.denominator}


def draw(found: Found, path: Path, caption: str = CAPTION) -> None:
    """Nats, flips and ratios."""
    with figure(path, caption, 3, 4.0, 3.9) as (nats, flips, ratios):
        for axis, key, unit in ((nats, "ce", "nats a token"), (flips, "flip", "share of tokens flipped")):
            for i, (name, rows) in enumerate(found["sweep"].items()):
                f = [row["f"] for row in rows]
                axis.plot(f, [r[key]["along"] for r in rows], "-", marker=MARKS[i], color=f"C{i}", label=f"{name}: r")
                random = [r[key]["random"] for r in rows]
                axis.plot(f, random, ":", marker=MARKS[i], mfc="w", color=f"C{i}", label=f"{name}: random")
            axis.axvline(0.8, **PAPER, label="published: onset f = .8")
            axis.set(xlabel="length of the disturbance f (residuals)", ylabel=unit)
        nats.set_yscale("symlog", linthresh=1e-3)
        nats.set_ylim(bottom=0)
        legend(nats, flips, side="outside upper left", columns=5)
        compare(ratios, found)


def compare(axis: Any, found: Found) -> None:
    """DABI of everything on one logarithmic axis, published values in grey."""
    rows: list[tuple[str, Found]] = []
    for name, depth in found["depth"].items():
        for key, word in (("flip", "flips"), ("ce", "CE")):
            rows += [(f"{name}, K = {r['K']}: {word}", r[key]) for r in depth]
    rows += [(f"CE, temperature {r['temperature']:g}", r["ce"]) for r in found["heat"] if r["temperature"] != 1]
    rows.append(("smooth decoder", found["smooth"]))
    published = [(f"paper: {name}", ends) for name, ends in PUBLISHED.items() if not name.startswith("onset")]
    for y, (name, r) in enumerate(rows):
        middle = r["value"] or r["low"]
        ends = [[middle - r["low"]], [max((r["high"] or middle) - middle, 0)]]
        colour, mark = "C1" if "CE" in name else "C0", "o" if r["value"] else ">"
        axis.errorbar([middle], [y], xerr=ends, fmt=mark, color=colour)
    for y, (_, (low, high)) in enumerate(published, len(rows)):
        axis.plot([low, high], [y, y], "-", marker="D", color=PAPER["color"], mfc="w")
    names = [name for name, _ in rows] + [name for name, _ in published]
    axis.set(xscale="log", xlabel="DABI, along r / random (dimensionless)", ylim=(len(names) - 0.4, -0.6))
    axis.set_yticks(range(len(names)), names, fontsize=7)
