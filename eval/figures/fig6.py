"""Fig. 6: flips predicted by the tube law against observed flips, from overlapping to separated clouds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.residual import channel_blur
from textflow.diagnostics.tube import evaluate_tube_law, tube_positions
from textflow.noise import Noise

from .source import FigureInput, fresh_oracle_input, independent_task, oracle_input
from .style import MARKERS, PUBLISHED_STYLE, Record, figure, shared_legend

BLURS = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)  # sigma / alpha of the channel, latent units
CONTEXT_BLURS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)  # the same where context helps
PUBLISHED = {"observed / law": 2.3, "law": "sqrt(2 / pi) s A_W"}
CAPTION = (
    "Flips of the posterior mean against the law s f(0+) / √(2π), which is the paper's √(2/π) s A_W with A_W = f(0+)"
    " / 2, f the density of margin distances δ* of real latents; s is the RMS residual of the posterior mean [ours]."
    " Clouds: uniform tokens without context, codes standard normal, of size τ; filled marks where the law is valid: s"
    " < .2 median δ* and f nearly level [ours]. Half-separated clouds show the published constant factor of about 2.3"
    " where s is comparable with the margins. Right: flips of the channel's noise alone, the law to all orders for a"
    " denoiser without context [ours]; points above the diagonal: flips that context avoids. Layout and cases:"
    " reconstruction [rebuilt]."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """Predicted and observed flips, by case and blur."""
    codes = Noise([seed]).normal(64, 8)
    line = torch.tensor([[[1.0], [-1.0]]])
    clouds = {"two modes, τ = 1": (line, 1.0), "overlapping, τ = 1": (codes, 1.0)}
    clouds |= {"half-separated, τ = .5": (codes, 0.5), "separated, τ = .15": (codes, 0.15)}
    cases = {}
    for name, cloud in clouds.items():
        independent = oracle_input(independent_task(name, *cloud), 4 * num_texts, seed)
        cases[name] = [measure_blur(independent, blur) for blur in BLURS]
    for source in (fresh_oracle_input("text", num_texts, seed), *inputs):
        cases[source.name] = [measure_blur(source, blur) for blur in CONTEXT_BLURS]
    return {"cases": cases}


def measure_blur(source: FigureInput, blur: float) -> Record:
    """One case at one blur of the channel."""
    path, embeddings, batches = source.model.path, getattr(source.model.codec, "codes", None), []
    scale = float(path.sigma(torch.tensor(0.0)))
    t = scale / (scale + blur)  # of the straight path
    for inputs, posterior, noise in source.terminal_residuals(t):
        decode = inputs.decode_positionwise
        facet = nearest_facets(decode, inputs.x, weights=embeddings)
        batches.append(tube_positions(decode, posterior, inputs.path, facet, noise, num_draws=4))
    num_texts = sum(len(batch.ids) for batch in source.batches)
    law = evaluate_tube_law(concat_batches(batches), t, channel_blur(path, t), num_texts, num_draws=4)
    return {
        "t": t,
        "channel_blur": law.channel_blur / law.latent_rms,
        "blur": law.posterior_blur / law.latent_rms,
        "blur_over_margin": law.posterior_blur / law.median_distance,
        "density": law.density.value * law.latent_rms,
        "density_error": law.density.std_error * law.latent_rms,
        "separated": law.density.is_separated,
        "law": law.predicted,
        "any_law": law.predicted_any_law,
        "surrogate": law.surrogate,
        "observed": law.observed,
        "ratio": law.observed / law.predicted if law.predicted > 0 else None,
        "valid": law.is_valid,
        "positions": law.size.num_positions,
    }


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Observed over predicted, their ratio, and the surrogate."""
    with figure(path, caption, 3, 4.2, 3.9) as (flips, ratio, all_orders):
        for i, (name, rows) in enumerate(results["cases"].items()):
            style = {"color": f"C{i}", "marker": MARKERS[i], "ms": 5}
            positive = [r for r in rows if r["law"] > 0 and r["observed"] > 0]
            draw_points(flips, [(r["law"], r["observed"], r["valid"]) for r in positive], style, name)
            draw_points(ratio, [(r["blur_over_margin"], r["ratio"], r["valid"]) for r in positive], style, name)
            draw_points(all_orders, [(r["observed"], r["surrogate"], r["valid"]) for r in rows], style, name)
        flips.plot([1e-3, 1], [1e-3, 1], color="k", linewidth=0.8, label="observed = predicted")
        flips.plot([1e-3, 0.4], [2.3e-3, 0.92], **PUBLISHED_STYLE, label="published: about 2.3 times the law")
        ratio.axhline(1, color="k", linewidth=0.8)
        ratio.axhline(2.3, **PUBLISHED_STYLE)
        all_orders.plot([0, 1], [0, 1], color="k", linewidth=0.8)
        flips.set(xscale="log", yscale="log", xlabel="law, share of tokens", ylabel="observed, share of tokens")
        flips.set(xlim=(3e-3, 1.5), ylim=(3e-3, 1.5))
        ratio.set(xlabel="s / median δ* (dimensionless)", ylabel="observed / law", ylim=(0.5, 5))
        ratio.loglog()
        ratio.set_yticks([0.5, 1, 2.3, 5], ["0.5", "1", "2.3", "5"])
        ratio.minorticks_off()
        all_orders.set(xlabel="observed, share of tokens", ylabel="channel's noise alone, share of tokens")
        shared_legend(flips, location="outside upper left", columns=4)


def draw_points(axis: Any, points: list[tuple[float, float, bool]], style: Record, name: str) -> None:
    """Line with markers, filled where the law is valid."""
    axis.plot([x for x, _, _ in points], [y for _, y, _ in points], "-", mfc="w", linewidth=1, label=name, **style)
    if filled := [(x, y) for x, y, valid in points if valid]:
        axis.plot(*zip(*filled, strict=True), linestyle="none", **style)
