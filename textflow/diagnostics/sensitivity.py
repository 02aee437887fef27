"""Sensitivity: how far latents can move before the readout's choice changes (2606.08810, with our directions)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vjp

from textflow.diagnostics.perturbation import Read
from textflow.diagnostics.spectral import TINY, differentiable
from textflow.noise import Noise
from textflow.types import Latents, Logits, Mask


@dataclass(frozen=True)
class Sensitivity:
    """Margin m, and by direction the local Lipschitz constant L of logit differences.

    Along a direction no token changes while every latent moves by less than rho = m / L: exact for a linear readout,
    local for any other.

    Args:
        lead: m, logit of the chosen token less that of the second, nats.
        slopes: L by direction (isotropic, residual, gradient), nats per latent unit, all positions moved at once.
        mask: True where there is text.
        draws: isotropic directions, of which the largest L counts.
        offsets: where along a direction the slopes were taken, latent units.
        dtype: of the latents.
    """

    lead: Float[Tensor, "B L"]
    slopes: dict[str, Float[Tensor, "B L"]]
    mask: Mask
    draws: int
    offsets: list[float]
    dtype: str

    def rho(self, direction: str) -> Float[Tensor, "B L"]:
        """m / L, latent units; infinite where nothing changes along the direction.

        Args:
            direction: isotropic, residual or gradient.
        """
        slope = self.slopes[direction]
        return torch.where(slope > 0, self.lead / slope.clamp_min(TINY), torch.inf)

    def summary(self) -> dict[str, float]:
        """Over valid positions: mean lead, and by direction the mean slope and the 10th percentile of rho."""
        found = {"lead": float(self.lead[self.mask].mean())}
        for name, slope in self.slopes.items():
            low = self.rho(name)[self.mask].sort().values  # a quantile that takes infinite ones
            found[f"slope/{name}"] = float(slope[self.mask].mean())
            found[f"rho/{name}"] = float(low[(len(low) - 1) // 10])
        return found


def sensitivity(
    read: Read,
    x: Latents,
    residual: Latents,
    noise: Noise,
    mask: Mask | None = None,
    draws: int = 4,
    offsets: Sequence[float] = (0.0,),
    rows: int = 8,
) -> Sensitivity:
    """Margin and slopes of a readout around latents.

    Args:
        read: latents -> logits.
        x: a guess, or real latents.
        residual: what the trajectory still has to go, or the guess's error; 0 has slope 0.
        noise: one stream a row, for isotropic directions.
        mask: True where there is text; default: everywhere. Padding does not move where latents are one a token.
        draws: isotropic directions, >= 1.
        offsets: distances along a direction where slopes are taken, the largest counts; 0 is x itself, latent units.
        rows: at a time; bounds memory.
    """
    spread = noise.normal(draws, *x.shape[1:]).to(x)  # [B, draws, S, d]
    parts = []
    with differentiable():
        for i in range(0, len(x), rows):
            part = slice(i, i + rows)
            at, ways = x[part].clone(), [*spread[part].unbind(1), residual[part].clone()]
            top = read(at).topk(2).values.double()
            ways.append(vjp(lambda z: lead(read(z)), at)[1](torch.ones_like(top[..., 0]).to(at))[0])
            ways = [still(way, mask if mask is None else mask[part]) for way in ways]
            slopes = [slope(read, at, way, offsets) for way in ways]
            parts.append((top[..., 0] - top[..., 1], torch.stack(slopes[:-2]).amax(0), *slopes[-2:]))
    margin, *found = (torch.cat(part) for part in zip(*parts, strict=True))
    names = ("isotropic", "residual", "gradient")
    return Sensitivity(
        margin,
        dict(zip(names, found, strict=True)),
        torch.ones_like(margin, dtype=torch.bool) if mask is None else mask,
        draws,
        list(offsets),
        str(x.dtype).removeprefix("torch."),
    )


def lead(logits: Logits) -> Float[Tensor, "B L"]:
    """Logit of the likeliest token less that of the second."""
    top = logits.topk(2).values
    return top[..., 0] - top[..., 1]


def still(way: Latents, mask: Mask | None) -> Latents:
    """A direction with padding at rest, where latents are one a token."""
    return way if mask is None or mask.shape != way.shape[:2] else torch.where(mask[..., None], way, 0.0)


def slope(read: Read, x: Latents, direction: Latents, offsets: Sequence[float]) -> Float[Tensor, "B L"]:
    """max_j |d (l_y - l_j) / dh| of x + h u, y the choice at x, u the direction at unit length in every latent.

    Args:
        read: latents -> logits.
        x: latents.
        direction: of any length; 0 has slope 0.
        offsets: values of h, latent units; the largest slope counts.
    """
    length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True, dtype=torch.float64)
    u = torch.where(length > 0, direction / length.clamp_min(TINY), 0.0).to(x)
    y = read(x).argmax(-1, keepdim=True)
    found = []
    for h in offsets:
        speed = jvp(read, (x + h * u,), (u,))[1].double()
        own = speed.gather(-1, y)[..., 0]
        found.append(torch.maximum(own - speed.amin(-1), speed.amax(-1) - own))
    return torch.stack(found).amax(0)
