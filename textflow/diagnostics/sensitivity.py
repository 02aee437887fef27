"""Sensitivity: latent displacement at which the readout's argmax changes (2606.08810, with our directions)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vjp

from textflow.diagnostics.perturbation import DecodeFn
from textflow.diagnostics.residual import latent_mask
from textflow.diagnostics.spectral import TINY, forward_mode
from textflow.noise import Noise
from textflow.types import Latents, Logits, Mask


@dataclass(frozen=True)
class SensitivityResult:
    """Margin m, and the local Lipschitz constant L of logit differences in each direction.

    Along a direction no token changes while every latent moves by less than rho = m / L: exact for a linear readout,
    local for any other.

    Args:
        margin: m, logit of the top token minus that of the second, nats.
        slopes: L by direction (isotropic, residual, gradient), nats per latent unit, all positions moved at once.
        mask: True at text.
        num_draws: number of isotropic directions; the largest L is used.
        offsets: distances along a direction at which slopes are evaluated, latent units.
        dtype: dtype of the latents.
    """

    margin: Float[Tensor, "B L"]
    slopes: dict[str, Float[Tensor, "B L"]]
    mask: Mask
    num_draws: int
    offsets: list[float]
    dtype: str

    def rho(self, direction: str) -> Float[Tensor, "B L"]:
        """m / L along isotropic, residual or gradient directions, latent units; infinite where the slope is 0."""
        slope = self.slopes[direction]
        return torch.where(slope > 0, self.margin / slope.clamp_min(TINY), torch.inf)

    def summary(self) -> dict[str, float]:
        """Mean margin over valid positions, and mean slope and 10th percentile of rho in each direction."""
        summary = {"margin": float(self.margin[self.mask].mean())}
        for name, slope in self.slopes.items():
            low = self.rho(name)[self.mask].sort().values  # sorting allows infinite values
            summary[f"slope/{name}"] = float(slope[self.mask].mean())
            summary[f"rho/{name}"] = float(low[(len(low) - 1) // 10])
        return summary


def sensitivity(
    decode: DecodeFn,
    x: Latents,
    residual: Latents,
    noise: Noise,
    mask: Mask | None = None,
    num_draws: int = 4,
    offsets: Sequence[float] = (0.0,),
    batch_size: int = 8,
) -> SensitivityResult:
    """Margin and slopes of a readout around latents.

    Args:
        decode: latents -> logits.
        x: predicted or real latents.
        residual: remaining displacement of the trajectory, or the prediction error; 0 has slope 0.
        noise: one stream per row, for isotropic directions.
        mask: True at text; default: everywhere. With one latent per token, padding is held fixed.
        num_draws: number of isotropic directions, >= 1.
        offsets: distances from x along a direction, latent units; the largest slope is used.
        batch_size: rows per batch; bounds memory.
    """
    spread = noise.normal(num_draws, *x.shape[1:]).to(x)  # [B, draws, S, d]
    parts = []
    with forward_mode():
        for i in range(0, len(x), batch_size):
            part = slice(i, i + batch_size)
            at, directions = x[part].clone(), [*spread[part].unbind(1), residual[part].clone()]
            margin = logit_margin(decode(at).double())
            directions.append(vjp(lambda z: logit_margin(decode(z)), at)[1](torch.ones_like(margin).to(at))[0])
            if mask is not None:
                directions = [torch.where(latent_mask(mask[part], v)[..., None], v, 0.0) for v in directions]
            slopes = [directional_slope(decode, at, v, offsets) for v in directions]
            parts.append((margin, torch.stack(slopes[:-2]).amax(0), *slopes[-2:]))
    margin, *slopes = (torch.cat(part) for part in zip(*parts, strict=True))
    by_direction = dict(zip(("isotropic", "residual", "gradient"), slopes, strict=True))
    mask = torch.ones_like(margin, dtype=torch.bool) if mask is None else mask
    return SensitivityResult(margin, by_direction, mask, num_draws, list(offsets), str(x.dtype).removeprefix("torch."))


def logit_margin(logits: Logits) -> Float[Tensor, "B L"]:
    """Logit of the likeliest token minus that of the second."""
    top = logits.topk(2).values
    return top[..., 0] - top[..., 1]


def directional_slope(
    decode: DecodeFn, x: Latents, direction: Latents, offsets: Sequence[float]
) -> Float[Tensor, "B L"]:
    """max_j |d (l_y - l_j) / dh| of x + h u, y the argmax at x, u the direction at unit length in every latent.

    Args:
        decode: latents -> logits.
        x: latents [B, S, d].
        direction: direction of any length; 0 has slope 0.
        offsets: values of h, latent units; the largest slope is used.
    """
    length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True, dtype=torch.float64)
    u = torch.where(length > 0, direction / length.clamp_min(TINY), 0.0).to(x)
    y = decode(x).argmax(-1, keepdim=True)
    slopes = []
    for h in offsets:
        speed = jvp(decode, (x + h * u,), (u,))[1].double()
        own = speed.gather(-1, y)[..., 0]
        slopes.append(torch.maximum(own - speed.amin(-1), speed.amax(-1) - own))
    return torch.stack(slopes).amax(0)
