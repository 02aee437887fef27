"""Fig. 2: the denoiser's residual damages decoding far more than noise of the same length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.bootstrap import Ratio, concat_batches
from textflow.diagnostics.dabi import RESIDUAL_SCALES, continuous_dabi, measure_response, summarise_response
from textflow.diagnostics.decoder_temperature import scale_logits
from textflow.diagnostics.perturbation import DecodeFn
from textflow.noise import Noise

from .source import FigureInput, named_oracle_input
from .style import MARKERS, PUBLISHED_STYLE, figure, shared_legend

Found = dict[str, Any]
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
    "Response of the readout to x + f r, r = E[x | z_t] - x the denoiser's residual at the last interior time of K ="
    " 8 steps (of ELF's grid; of a run's own), and to random directions as long (norm matched a position, all"
    " positions at once). DABI is the ratio of the two; this formula is the project's reconstruction [ours], chosen"
    " because the paper's 45.7 belongs to the cross-entropy at f = 1; its range 5e2 to 1e5 does not contain 45.7, so"
    " another perturbation or f lies behind it. Bars: 95 % intervals by the bootstrap over sequences. A heated decoder"
    " moves the DABI of losses and no flip. The smooth decoder is random and linear, a stand-in for images."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Found:
    """Responses by length and DABI by depth, for the oracle task `text` and for runs.

    Args:
        num_texts: number of texts.
        seed: random seed for the oracle task, texts and noise.
        inputs: trained generators with real text.
    """
    sources = [named_oracle_input("text", num_texts, seed), *inputs]
    sweeps = {source.name: [response_at(source, 8, f) for f in RESIDUAL_SCALES] for source in sources}
    depths = {source.name: [response_at(source, k, 1.0) for k in DEPTHS] for source in sources}
    heats = [{"temperature": h} | response_at(sources[0], 8, 1.0, h) for h in TEMPERATURES]
    return {"sweep": sweeps, "depth": depths, "heat": heats, "smooth": ratio_fields(smooth_decoder_dabi(sources[0]))}


def response_at(source: FigureInput, steps: int, scale: float, temperature: float = 1.0, draws: int = 4) -> Found:
    """Both ratios with numerators and denominators, at the last interior time of a grid."""
    t, parts = source.model.sampling_schedule.grid(steps)[-2], []
    for inputs, posterior, noise in source.terminal_residuals(t):
        parts.append(
            measure_response(
                with_temperature(inputs.decode, temperature),
                inputs.x,
                posterior.x0_pred,
                inputs.mask,
                noise,
                scale,
                draws,
            )
        )
    made = summarise_response(concat_batches(parts), scale, draws, seed=source.seed)
    size = {
        "K": steps,
        "t": t,
        "scale": scale,
        "positions": made.size.num_positions,
        "sequences": made.size.num_sequences,
    }
    return size | {"draws": draws, "ce": ratio_fields(made.loss), "flip": ratio_fields(made.flip)}


def with_temperature(read: DecodeFn, temperature: float) -> DecodeFn:
    """Readout with a temperature."""
    return lambda z: scale_logits(read(z), temperature)


def smooth_decoder_dabi(source: FigureInput) -> Ratio:
    """DABI of a random linear decoder for the same residuals."""
    inputs, posterior, noise = next(source.terminal_residuals(source.model.sampling_schedule.grid(8)[-2]))
    wide = Noise([source.seed]).normal(inputs.x.shape[-1], 4 * inputs.x.shape[-1])[0]
    return continuous_dabi(lambda z: z @ wide, inputs.x, posterior.x0_pred, inputs.mask, noise)


def ratio_fields(ratio: Ratio) -> Found:
    """Ratio with its interval, or a lower bound if the value is unknown."""
    bounded = {"value": ratio.value if ratio.has_value else None, "low": ratio.low}
    high = ratio.high if ratio.high < torch.inf else None
    return bounded | {"high": high, "along": ratio.numerator, "random": ratio.denominator}


def draw(results: Found, path: Path, caption: str = CAPTION) -> None:
    """Nats, flips and ratios."""
    with figure(path, caption, 3, 4.0, 3.9) as (nats, flips, ratios):
        for axis, key, unit in ((nats, "ce", "nats a token"), (flips, "flip", "share of tokens flipped")):
            for i, (name, rows) in enumerate(results["sweep"].items()):
                f = [row["scale"] for row in rows]
                axis.plot(f, [r[key]["along"] for r in rows], "-", marker=MARKERS[i], color=f"C{i}", label=f"{name}: r")
                random = [r[key]["random"] for r in rows]
                axis.plot(f, random, ":", marker=MARKERS[i], mfc="w", color=f"C{i}", label=f"{name}: random")
            axis.axvline(0.8, **PUBLISHED_STYLE, label="published: onset f = .8")
            axis.set(xlabel="length of the disturbance f (residuals)", ylabel=unit)
        nats.set_yscale("symlog", linthresh=1e-3)
        nats.set_ylim(bottom=0)
        shared_legend(nats, flips, location="outside upper left", columns=5)
        draw_comparison(ratios, results)


def draw_comparison(axis: Any, found: Found) -> None:
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
        axis.plot([low, high], [y, y], "-", marker="D", color=PUBLISHED_STYLE["color"], mfc="w")
    names = [name for name, _ in rows] + [name for name, _ in published]
    axis.set(xscale="log", xlabel="DABI, along r / random (dimensionless)", ylim=(len(names) - 0.4, -0.6))
    axis.set_yticks(range(len(names)), names, fontsize=7)
