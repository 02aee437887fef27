"""Tube law: how many tokens a blur of the latents flips, from the density of real text at the readout's boundaries.

flip = sqrt(2 / pi) s A, A = f(0+) / 2 the area of the boundary under the density of real latents (2606.30705); what
the blur s is, and all that goes beyond first order, is the project's own.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from textflow.diagnostics.bootstrap import Size
from textflow.diagnostics.density import Density, boundary_density, density_at
from textflow.diagnostics.facets import Facet
from textflow.diagnostics.perturbation import Read
from textflow.diagnostics.residual import Terminal, channel_blur, doubts
from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.types import Latents, Logits, Mask


class Positions(NamedTuple):
    """What the law needs of each valid position; batches are `joined`.

    Args:
        distance: delta* of x, latent units.
        lean: component of the residual along the active facet's normal, latent units.
        square: mean square of the residual over coordinates.
        spread: mean square of x over coordinates.
        flip: whether the guess is read otherwise than x.
        surrogate: share of draws in which x + s_ch xi is read otherwise than x.
        wrong: 1 where argmax gamma is not the clean decode; NaN without gamma.
        doubt: 1 - max gamma; NaN without gamma.
    """

    distance: Float[Tensor, " n"]
    lean: Float[Tensor, " n"]
    square: Float[Tensor, " n"]
    spread: Float[Tensor, " n"]
    flip: Float[Tensor, " n"]
    surrogate: Float[Tensor, " n"]
    wrong: Float[Tensor, " n"]
    doubt: Float[Tensor, " n"]


@dataclass(frozen=True)
class Tube:
    """Predicted and observed flips at one time; blurs in latent units, rates a valid position.

    Args:
        t: time.
        s_ch: of the channel, sigma / alpha [ours].
        s_post: root mean square of the residual's coordinates, the default blur s [ours].
        s_n: root mean square of the residual along the facet's normal [ours].
        scale: root mean square of the latents' coordinates, the unit to print the blurs in.
        density: f(0+).
        density_far: f(2 s).
        median: of delta*, latent units.
        linear: s_post f(0+) / sqrt(2 pi), the law.
        free: f(0+) E|r_n| / 2, for residuals of any law [ours].
        surrogate: flips of the channel's noise alone: the law to all orders, without context [ours].
        observed: flips of the guess.
        wrong: argmax gamma is not the clean decode; NaN without gamma.
        doubt: mean 1 - max gamma, which equals wrong for a calibrated posterior; NaN without gamma.
        size: n positions, n sequences and draws of the surrogate.
    """

    t: float
    s_ch: float
    s_post: float
    s_n: float
    scale: float
    density: Density
    density_far: float
    median: float
    linear: float
    free: float
    surrogate: float
    observed: float
    wrong: float
    doubt: float
    size: Size

    @property
    def context_gain(self) -> float:
        """surrogate - observed: the flips that context saves [ours]."""
        return self.surrogate - self.observed

    @property
    def ratio(self) -> float:
        """observed / linear; NaN where the law predicts no flip."""
        return self.observed / self.linear if self.linear > 0 else math.nan

    @property
    def valid(self) -> bool:
        """Whether the law holds to about a tenth, besides the error of f(0+): s_post < .2 median(delta*) and
        .65 < f(2 s) / f(0+) < 1.35 [ours]."""
        near, far = self.density.value, self.density_far
        return self.s_post < 0.2 * self.median and 0.65 * near < far < 1.35 * near


def law(s: float, density: float) -> float:
    """Flip rate s f(0+) / sqrt(2 pi) of a blur s, to first order.

    Args:
        s: blur, latent units.
        density: f(0+), 1 / latent unit.
    """
    return s * density / math.sqrt(2 * math.pi)


@torch.no_grad()
def surrogate(read: Read, x: Latents, mask: Mask, s: float, noise: Noise, draws: int = 8) -> Float[Tensor, "B L"]:
    """Share of draws in which read(x + s xi) is not read(x), xi ~ N(0, I); 0 at padding [ours].

    Args:
        read: latents -> logits.
        x: latents of real text.
        mask: True where x is text.
        s: blur, latent units.
        noise: one stream a sequence.
        draws: of xi.
    """
    said = read(x).argmax(-1)
    flips = torch.zeros(mask.shape, dtype=torch.float64, device=x.device)
    for _ in range(draws):
        xi = torch.where(mask[..., None], noise.normal_like(x), 0)
        flips += (read(x + s * xi).argmax(-1) != said) & mask
    return flips / draws


@torch.no_grad()
def positions(
    read: Read,
    met: Terminal,
    path: Path,
    facet: Facet,
    noise: Noise,
    logits: Logits | None = None,
    draws: int = 8,
    among: Bool[Tensor, "B L"] | None = None,
) -> Positions:
    """What the law needs of a batch.

    Args:
        read: latents -> logits, clean.
        met: real text met at a time in (0, 1).
        path: how text becomes noise.
        facet: of the readout at x, with the residual of the guess.
        noise: one stream a sequence.
        logits: of p(token | z_t); default: the belief's, if it has them.
        draws: of the surrogate.
        among: positions that the facets were sought at; default: all valid ones.
    """
    x, mask, said = met.x, met.mask, read(met.x).argmax(-1)
    logits = met.belief.logits if logits is None else logits
    flip = read(torch.where(mask[..., None], met.guess, x)).argmax(-1) != said
    noisy = surrogate(read, x, mask, channel_blur(path, met.t), noise, draws)
    wrong, doubt = doubts(logits, said)
    square, spread = (values.double().square().mean(-1) for values in (met.residual, x))
    found = (facet.distance, facet.lean, square, spread, flip.double(), noisy, wrong, doubt)
    kept = mask if among is None else mask & among
    return Positions(*(values[kept] for values in found))


def tube(seen: Positions, t: float, s_ch: float, sequences: int, draws: int = 8, dtype: str = "float32") -> Tube:
    """Predicted and observed flips.

    Args:
        seen: all valid positions.
        t: time.
        s_ch: `channel_blur` at t.
        sequences: number of them.
        draws: of the surrogate.
        dtype: of the latents.
    """
    s_post, s_n, scale = (rms(values) for values in (seen.square, seen.lean.square(), seen.spread))
    density = boundary_density(seen.distance)
    far = density_at(seen.distance, 2 * s_post, density.h) if density.h > 0 else 0.0
    median = float(seen.distance.median()) if len(seen.distance) else math.inf
    linear, free = law(s_post, density.value), density.value * mean(seen.lean.abs()) / 2
    noisy, flip, wrong, doubt = (mean(values) for values in (seen.surrogate, seen.flip, seen.wrong, seen.doubt))
    size = Size(len(seen.distance), sequences, draws, dtype=dtype)
    return Tube(t, s_ch, s_post, s_n, scale, density, far, median, linear, free, noisy, flip, wrong, doubt, size)


def mean(values: Tensor) -> float:
    """Mean in float64; 0 of nothing."""
    return float(values.double().sum()) / max(len(values), 1)


def rms(squares: Tensor) -> float:
    """Root of the mean."""
    return math.sqrt(mean(squares))
