"""Fig. 2: the denoiser's residual damages decoding far more than noise of the same length."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.diagnostics.bootstrap import Ratio, concat_batches
from textflow.diagnostics.dabi import RESIDUAL_SCALES, continuous_dabi, measure_response, summarise_response
from textflow.diagnostics.decoder_temperature import scale_logits
from textflow.diagnostics.perturbation import DecodeFn
from textflow.noise import Noise

from .source import FigureInput, fresh_oracle_input
from .style import MARKERS, PUBLISHED_STYLE, Record, figure, shared_legend

DEPTHS = (4, 8, 16)
TEMPERATURES = (0.25, 1.0, 16.0)
PUBLISHED = {
    "45.7, CE at f = 1": (45.7, 45.7),
    "21.2": (21.2, 21.2),
    "10 to 33": (10.0, 33.0),
    "5e2 to > 1e5, text": (5e2, 1e5),
    "about 1, images": (1.0, 1.0),
    "onset of flips, f": (0.8, 0.8),
}
CAPTION = (
    "Response of the readout to x + f r, where r = E[x | z_t] - x is the denoiser's residual at the last interior time"
    " of K = 8 steps (ELF's grid; for a run its own), and to random directions of the same length (norm matched at each"
    " position, all positions at once). DABI is the ratio of the two; this formula is the project's reconstruction"
    " [ours], chosen because the paper's 45.7 belongs to the cross-entropy at f = 1. The paper's range 5e2 to 1e5 does"
    " not contain 45.7, so it uses another perturbation or f. Bars: 95 % bootstrap intervals over sequences. The"
    " decoder's temperature changes the DABI of losses but no flip. The smooth decoder is random and linear, a stand-in"
    " for images."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """Responses by length and DABI by depth, for the oracle task `text` and for runs."""
    sources = [fresh_oracle_input("text", num_texts, seed), *inputs]
    sweeps = {source.name: [response_at(source, 8, f) for f in RESIDUAL_SCALES] for source in sources}
    depths = {source.name: [response_at(source, k, 1.0) for k in DEPTHS] for source in sources}
    heats = [{"temperature": h} | response_at(sources[0], 8, 1.0, h) for h in TEMPERATURES]
    return {"sweep": sweeps, "depth": depths, "heat": heats, "smooth": ratio_fields(smooth_decoder_dabi(sources[0]))}


def response_at(source: FigureInput, steps: int, scale: float, temperature: float = 1.0, draws: int = 4) -> Record:
    """Both ratios with numerators and denominators, at the last interior time of a grid."""
    t, batches = source.model.sampling_schedule.grid(steps)[-2], []
    for inputs, posterior, noise in source.terminal_residuals(t):
        decode = with_temperature(inputs.decode, temperature)
        batches.append(measure_response(decode, inputs.x, posterior.x0_pred, inputs.mask, noise, scale, draws))
    response = summarise_response(concat_batches(batches), scale, draws, seed=source.seed)
    size = {"positions": response.size.num_positions, "sequences": response.size.num_sequences, "draws": draws}
    ratios = {"ce": ratio_fields(response.loss), "flip": ratio_fields(response.flip)}
    return {"K": steps, "t": t, "scale": scale} | size | ratios


def with_temperature(decode: DecodeFn, temperature: float) -> DecodeFn:
    """Readout with a temperature."""
    return lambda z: scale_logits(decode(z), temperature)


def smooth_decoder_dabi(source: FigureInput) -> Ratio:
    """DABI of a random linear decoder for the same residuals."""
    inputs, posterior, noise = next(source.terminal_residuals(source.model.sampling_schedule.grid(8)[-2]))
    weight = Noise([source.seed]).normal(inputs.x.shape[-1], 4 * inputs.x.shape[-1])[0]
    return continuous_dabi(lambda z: z @ weight, inputs.x, posterior.x0_pred, inputs.mask, noise)


def ratio_fields(ratio: Ratio) -> Record:
    """Ratio with its interval, or a lower bound if the value is unknown."""
    value, high = ratio.value if ratio.has_value else None, ratio.high if ratio.high < math.inf else None
    return {"value": value, "low": ratio.low, "high": high, "along": ratio.numerator, "random": ratio.denominator}


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Nats, flips and ratios."""
    with figure(path, caption, 3, 4.0, 3.9) as (nats, flips, ratios):
        for axis, key, unit in ((nats, "ce", "nats per token"), (flips, "flip", "share of tokens flipped")):
            for i, (name, rows) in enumerate(results["sweep"].items()):
                f = [row["scale"] for row in rows]
                axis.plot(f, [r[key]["along"] for r in rows], "-", marker=MARKERS[i], color=f"C{i}", label=f"{name}: r")
                random = [r[key]["random"] for r in rows]
                axis.plot(f, random, ":", marker=MARKERS[i], mfc="w", color=f"C{i}", label=f"{name}: random")
            axis.axvline(0.8, **PUBLISHED_STYLE, label="published: onset f = .8")
            axis.set(xlabel="length of the perturbation f (residuals)", ylabel=unit)
        nats.set_yscale("symlog", linthresh=1e-3)
        nats.set_ylim(bottom=0)
        shared_legend(nats, flips, location="outside upper left", columns=5)
        draw_comparison(ratios, results)


def draw_comparison(axis: Any, results: Record) -> None:
    """All DABI values on one logarithmic axis, published values in grey."""
    rows: list[tuple[str, Record]] = []
    for name, depth in results["depth"].items():
        for key, label in (("flip", "flips"), ("ce", "CE")):
            rows += [(f"{name}, K = {r['K']}: {label}", r[key]) for r in depth]
    rows += [(f"CE, temperature {r['temperature']:g}", r["ce"]) for r in results["heat"] if r["temperature"] != 1]
    rows.append(("smooth decoder", results["smooth"]))
    published = [(f"paper: {name}", ends) for name, ends in PUBLISHED.items() if not name.startswith("onset")]
    for y, (name, r) in enumerate(rows):
        middle = r["value"] or r["low"]
        ends = [[middle - r["low"]], [max((r["high"] or middle) - middle, 0)]]
        colour, marker = "C1" if "CE" in name else "C0", "o" if r["value"] else ">"
        axis.errorbar([middle], [y], xerr=ends, fmt=marker, color=colour)
    for y, (_, (low, high)) in enumerate(published, len(rows)):
        axis.plot([low, high], [y, y], "-", marker="D", color=PUBLISHED_STYLE["color"], mfc="w")
    names = [name for name, _ in rows] + [name for name, _ in published]
    axis.set(xscale="log", xlabel="DABI, along r / random (dimensionless)", ylim=(len(names) - 0.4, -0.6))
    axis.set_yticks(range(len(names)), names, fontsize=7)
