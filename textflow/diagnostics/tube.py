"""Tube law: token flip rate under a blur of the latents, from the density of real text at decision boundaries.

flip = sqrt(2 / pi) s A, A = f(0+) / 2 the area of the boundary under the density of real latents (2606.30705); the
choice of the blur s, and all terms beyond first order, are the project's own.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.bootstrap import SampleSize
from textflow.diagnostics.density import BoundaryDensity, boundary_density, density_at
from textflow.diagnostics.facets import Facet
from textflow.diagnostics.perturbation import DecodeFn
from textflow.diagnostics.residual import TerminalPosterior, channel_blur, latent_mask, token_errors
from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.types import Latents, Mask


class TubePositions(NamedTuple):
    """Inputs of the law at each valid position; batches are joined by `concat_batches`.

    Args:
        distance: delta* of x, latent units.
        normal_component: component of the residual along the active facet's normal, latent units.
        residual_power: mean square of the residual over coordinates.
        latent_power: mean square of x over coordinates.
        flip: 1 where the prediction decodes differently from x.
        surrogate: share of draws in which x + s_ch xi decodes differently from x.
        token_error: 1 where argmax gamma differs from the clean decode; NaN without gamma.
        bayes_error: 1 - max gamma; NaN without gamma.
    """

    distance: Float[Tensor, " n"]
    normal_component: Float[Tensor, " n"]
    residual_power: Float[Tensor, " n"]
    latent_power: Float[Tensor, " n"]
    flip: Float[Tensor, " n"]
    surrogate: Float[Tensor, " n"]
    token_error: Float[Tensor, " n"]
    bayes_error: Float[Tensor, " n"]


@dataclass(frozen=True)
class TubeResult:
    """Predicted and observed flips at one time; blurs in latent units, rates per valid position.

    Args:
        t: time.
        channel_blur: blur of the channel, sigma / alpha [ours].
        posterior_blur: root mean square of the residual's coordinates, the default blur s [ours].
        normal_blur: root mean square of the residual along the facet's normal [ours].
        latent_rms: root mean square of the latents' coordinates, to normalise the blurs.
        density: f(0+).
        density_at_2s: f(2 s).
        median_distance: median of delta*, latent units.
        predicted: s_post f(0+) / sqrt(2 pi), the law.
        predicted_any_law: f(0+) E|r_n| / 2, for residuals of any law [ours].
        surrogate: flip rate under the channel's noise alone: the law to all orders, without context [ours].
        observed: flip rate of the prediction.
        token_error: share where argmax gamma differs from the clean decode; NaN without gamma.
        bayes_error: mean 1 - max gamma, equal to token_error for a calibrated posterior; NaN without gamma.
        size: numbers of positions, sequences and surrogate draws.
    """

    t: float
    channel_blur: float
    posterior_blur: float
    normal_blur: float
    latent_rms: float
    density: BoundaryDensity
    density_at_2s: float
    median_distance: float
    predicted: float
    predicted_any_law: float
    surrogate: float
    observed: float
    token_error: float
    bayes_error: float
    size: SampleSize

    @property
    def context_gain(self) -> float:
        """surrogate - observed: the flips that context saves [ours]."""
        return self.surrogate - self.observed

    @property
    def ratio(self) -> float:
        """observed / predicted; NaN where the law predicts no flip."""
        return self.observed / self.predicted if self.predicted > 0 else math.nan

    @property
    def is_valid(self) -> bool:
        """True if the law holds to about 10 %, apart from the error of f(0+): s_post < .2 median(delta*) and
        .65 < f(2 s) / f(0+) < 1.35 [ours]."""
        near, far = self.density.value, self.density_at_2s
        return self.posterior_blur < 0.2 * self.median_distance and 0.65 * near < far < 1.35 * near


def tube_law(blur: float, density: float) -> float:
    """Flip rate s f(0+) / sqrt(2 pi), to first order, of a blur s in latent units and a density f(0+)."""
    return blur * density / math.sqrt(2 * math.pi)


@torch.no_grad()
def surrogate_flips(
    decode: DecodeFn, x: Latents, mask: Mask, blur: float, noise: Noise, num_draws: int = 8
) -> Float[Tensor, "B L"]:
    """Share of draws in which decode(x + s xi) differs from decode(x), xi ~ N(0, I); 0 at padding [ours].

    Args:
        decode: latents -> logits.
        x: latents.
        mask: True at text.
        blur: standard deviation s, latent units.
        noise: one stream per row.
        num_draws: number of draws of xi.
    """
    clean_ids = decode(x).argmax(-1)
    flips = torch.zeros(mask.shape, dtype=torch.float64, device=x.device)
    for _ in range(num_draws):
        xi = torch.where(latent_mask(mask, x)[..., None], noise.normal_like(x), 0)
        flips += (decode(x + blur * xi).argmax(-1) != clean_ids) & mask
    return flips / num_draws


@torch.no_grad()
def tube_positions(
    decode: DecodeFn,
    terminal: TerminalPosterior,
    path: ProbPath,
    facet: Facet,
    noise: Noise,
    num_draws: int = 8,
) -> TubePositions:
    """Inputs of the law for a batch.

    Args:
        decode: latents -> logits.
        terminal: posterior on noised real text at a time in (0, 1).
        path: probability path.
        facet: nearest boundary of the readout at x.
        noise: one stream per row.
        num_draws: number of surrogate draws.
    """
    x, mask, clean_ids = terminal.x, terminal.mask, decode(terminal.x).argmax(-1)
    flip = decode(torch.where(latent_mask(mask, x)[..., None], terminal.x0_pred, x)).argmax(-1) != clean_ids
    noisy = surrogate_flips(decode, x, mask, channel_blur(path, terminal.t), noise, num_draws)
    wrong, doubt = token_errors(terminal.belief.logits, clean_ids)
    square, spread = (values.double().square().mean(-1) for values in (terminal.residual, x))
    columns = (facet.distance, facet.component(terminal.residual), square, spread, flip.double(), noisy, wrong, doubt)
    return TubePositions(*(values[mask] for values in columns))


def evaluate_tube_law(
    positions: TubePositions, t: float, channel_blur: float, num_sequences: int, num_draws: int = 8
) -> TubeResult:
    """Predicted and observed flips.

    Args:
        positions: inputs at all valid positions.
        t: time of the measurement.
        channel_blur: `channel_blur` at t.
        num_sequences: number of sequences that the positions come from.
        num_draws: number of surrogate draws.
    """
    squares = (positions.residual_power, positions.normal_component.square(), positions.latent_power)
    s_post, s_n, scale = (math.sqrt(mean(values)) for values in squares)
    density = boundary_density(positions.distance)
    far = density_at(positions.distance, 2 * s_post, density.bandwidth) if density.bandwidth > 0 else 0.0
    median = float(positions.distance.median()) if len(positions.distance) else math.inf
    linear, free = tube_law(s_post, density.value), density.value * mean(positions.normal_component.abs()) / 2
    rates = (positions.surrogate, positions.flip, positions.token_error, positions.bayes_error)
    noisy, flip, wrong, doubt = (mean(values) for values in rates)
    size = SampleSize(len(positions.distance), num_sequences, num_draws)
    return TubeResult(
        t, channel_blur, s_post, s_n, scale, density, far, median, linear, free, noisy, flip, wrong, doubt, size
    )


def mean(values: Tensor) -> float:
    """Mean in float64; 0 if empty."""
    return float(values.double().sum()) / max(len(values), 1)
