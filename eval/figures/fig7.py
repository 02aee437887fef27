"""Fig. 7: how much more a decoder is hurt by its own kind of error than by random ones: images and text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .source import FigureInput
from .style import PUBLISHED_STYLE, Record, figure, shared_legend

FAMILIES = {"image": "C4", "continuous text": "C1", "token diffusion": "C2", "autoregressive": "C0"}
CONTROLS = {"isotropic": "o", "covariance": "D", "shuffled": "s"}
PUBLISHED = {"images, about": (1.0, 1.0), "continuous text": (5e2, 1e5)}
CAPTION = (
    "Decoders of images and of text, from packages and from trained runs. Left: raw response to the error of a denoiser"
    " (filled) and to random errors of the same length (open): the share of tokens that flip, or for images the squared"
    " error over the images' variance (2: another image). Right: DABI, the ratio of the two, with 95 % bootstrap"
    " intervals over texts or images; an arrow is a lower bound, where a control is at the floor. The error is that of"
    " the run's own denoiser at the last interior time of K = 8 steps; for decoders without one, and where it flips"
    " too little for a ratio, that of the exact posterior over a bank of other latents (empirical posterior [ours]),"
    " for decoders of packages under noise as long as a latent. Random errors are isotropic, have the latents' own"
    " covariance [ours], or are those of other positions (shuffled). A language model's latent is its"
    " final hidden state. The paper's construction is not public; the ratio is the project's reconstruction [ours]."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = (), decoders: Sequence[Record] = ()) -> Record:
    """The records of the decoders, which `textflow reproduce` measures one by one."""
    return {"decoders": list(decoders)}


def main_row(decoder: Record) -> Record:
    """Row of a decoder that is drawn: the first whose error changes enough for a ratio above 0 within its interval.
    That of its own denoiser comes first."""
    rows: list[Record] = decoder["rows"]
    return next((row for row in rows if any(row[f"DABI_{control}_low"] > 0 for control in CONTROLS)), rows[0])


def name_line(decoder: Record) -> str:
    """Label of a decoder, for a run with the error that is drawn."""
    return f"{decoder['label']} ({main_row(decoder)['error']})" if decoder.get("is_run") else str(decoder["label"])


def in_order(decoders: Sequence[Record]) -> list[Record]:
    """Decoders family by family."""
    return [decoder for family in FAMILIES for decoder in decoders if decoder["family"] == family]


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Raw rates beside their ratios, a line a decoder."""
    from matplotlib.ticker import LogLocator

    decoders = in_order(results["decoders"])
    with figure(path, caption, 2, 5.6, max(0.32 * len(decoders), 1) + 2.4) as (rates, ratios):
        for y, decoder in enumerate(decoders):
            draw_line(rates, ratios, y, decoder)
        for axis in (rates, ratios):
            axis.set(xscale="log", ylim=(len(decoders) - 0.4, -0.6))
        rates.set_yticks(range(len(decoders)), list(map(name_line, decoders)), fontsize=7.5)
        for tick, decoder in zip(rates.get_yticklabels(), decoders, strict=True):
            tick.set_color(FAMILIES[decoder["family"]])
        ratios.set_yticks(range(len(decoders)), [])
        low, high = rates.get_xlim()
        rates.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        rates.xaxis.set_major_formatter("{x:g}")
        rates.xaxis.set_minor_formatter("")
        rates.set(xlabel="response: share of tokens flipped, or image error over variance")
        ratios.set(xlabel="DABI: response to the denoiser's error over that to random ones")
        low, high = PUBLISHED["continuous text"]
        ratios.axvline(PUBLISHED["images, about"][0], **PUBLISHED_STYLE, label="paper: images, about 1")
        ratios.axvspan(low, high, color="#dddddd", zorder=0.2, label="paper: text, 5e2 to over 1e5")
        name_markers(rates)
        shared_legend(rates, ratios, location="outside upper left", columns=5)


def name_markers(axis: Any) -> None:
    """Legend entries of colours and markers."""
    for family, colour in FAMILIES.items():
        axis.plot([], [], "-", color=colour, lw=3, label=family)
    axis.plot([], [], "P", color="#444444", ms=8, label="error of a denoiser")
    for name, marker in CONTROLS.items():
        axis.plot([], [], marker, mfc="w", color="#444444", ms=5, label=f"random errors, {name}")


def draw_line(rates: Any, ratios: Any, y: int, decoder: Record) -> None:
    """Raw rates and ratios of one decoder."""
    row, colour = main_row(decoder), FAMILIES[decoder["family"]]
    along = row[decoder["unit"]]
    if not along:
        rates.annotate("no token flips", (0.02, y), xycoords=("axes fraction", "data"), color=colour, fontsize=7)
        return
    rates.plot([along], [y], "P", color=colour, ms=8)
    for i, (name, marker) in enumerate(CONTROLS.items()):
        at, value = y + 0.2 * (i - 1), row[f"DABI_{name}"]
        if row[name] > 0:
            rates.plot([row[name]], [at], marker, mfc="w", color=colour, ms=5)
        draw_ratio(ratios, at, marker, colour, value, row[f"DABI_{name}_low"], row[f"DABI_{name}_high"])


def draw_ratio(
    axis: Any, y: float, marker: str, colour: str, value: float | None, low: float, high: float | None
) -> None:
    """A ratio with its interval, or an arrow from its lower bound."""
    if value is not None:
        ends = [[value - low], [max((high or value) - value, 0)]]
        axis.errorbar([value], [y], xerr=ends, fmt=marker, color=colour, mfc="w", ms=5, capsize=2)
    elif low > 0:
        axis.annotate("", (3 * low, y), (low, y), arrowprops={"arrowstyle": "->", "color": colour})
        axis.plot([low], [y], marker, color=colour, mfc="w", ms=5)
