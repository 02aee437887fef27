"""Facets: the nearest boundaries of the readout's cells, to first order."""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.perturbation import DecodeFn
from textflow.types import Latents, Logits

MIN_SLOPE = 1e-4  # gradient norm below which two tokens are taken to share no boundary


class Facet(NamedTuple):
    """The nearest boundary of each position's cell.

    Args:
        distance: delta* = min_j (l_y - l_j) / |grad (l_y - l_j)|, latent units; infinite without a boundary.
        normal: unit normal nu, pointing out of the cell; 0 without a boundary.
    """

    distance: Float[Tensor, "B L"]
    normal: Latents

    def component(self, r: Latents) -> Float[Tensor, "B L"]:
        """r . nu, component of a residual along the boundary's normal, latent units, in float64."""
        return (r.double() * self.normal.double()).sum(-1)


def nearest_facets(
    decode: DecodeFn, z: Latents, num_candidates: int = 32, weights: Float[Tensor, "V d"] | None = None
) -> Facet:
    """Margin distance and normal of the active facet of each position [ours].

    Exact for a readout that is linear in the latents, first order otherwise. The readout must treat positions
    separately (one backward pass per candidate); use `nearest_joint_facets` for one that mixes positions.

    Args:
        decode: latents -> logits, position by position.
        z: latents at which the nearest boundary is computed.
        num_candidates: number of runner-up tokens whose boundaries are tested, >= 1.
        weights: weights of a linear readout, used instead of its gradients.
    """
    with torch.inference_mode(False), torch.enable_grad():
        point = z.detach().clone().requires_grad_(weights is None)
        logits = decode(point)
        if logits.shape[:2] != point.shape[:2]:
            raise ValueError(
                f"the nearest boundaries need a latent per token, but {logits.shape[1]} tokens have {point.shape[1]} "
                "latents; leave Tube (and DABI of a codec alone) out"
            )
        best, tokens = logits.topk(min(num_candidates + 1, logits.shape[-1]), dim=-1)
        nearest = no_facet(point.detach())
        for j in range(1, best.shape[-1]):
            gap = best[..., 0] - best[..., j]
            if weights is None:
                slope = torch.autograd.grad(gap.sum(), point, retain_graph=True)[0]
            else:
                slope = weights[tokens[..., 0]] - weights[tokens[..., j]]
            nearest = nearer_facet(nearest, gap.detach(), slope)
    return nearest


def nearest_joint_facets(decode: DecodeFn, z: Latents, positions: list[int], num_candidates: int = 32) -> Facet:
    """`nearest_facets` of a readout that mixes positions: the gradient is taken over all latents of the row.

    It costs len(positions) x candidates backward passes, and returns distances [B, P] and normals [B, P, S d].

    Args:
        decode: latents -> logits.
        z: latents at which the nearest boundaries are computed.
        positions: indices of the P positions to evaluate.
        num_candidates: number of runner-up tokens whose boundaries are tested, >= 1.
    """

    def decode_position(at: int, row: Latents) -> Logits:
        return decode(row.reshape(z.shape))[:, at : at + 1]

    flat = z.flatten(1)[:, None]  # one position of S d coordinates
    facets = [nearest_facets(partial(decode_position, at), flat, num_candidates) for at in positions]
    return Facet(*(torch.cat(parts, 1) for parts in zip(*facets, strict=True)))


def no_facet(z: Latents) -> Facet:
    """Facets at infinite distance, the initial value of the search."""
    return Facet(torch.full(z.shape[:2], torch.inf, dtype=torch.float64, device=z.device), torch.zeros_like(z))


def nearer_facet(nearest: Facet, gap: Float[Tensor, "B L"], slope: Latents) -> Facet:
    """The nearer of a boundary and the one where gap falls to 0 along -slope."""
    steep = slope.double().norm(dim=-1)
    distance = torch.where(steep < MIN_SLOPE, torch.inf, gap.double() / steep.clamp_min(MIN_SLOPE))
    closer = (distance < nearest.distance)[..., None]
    normal = torch.where(closer, -slope / steep.clamp_min(MIN_SLOPE).to(slope)[..., None], nearest.normal)
    return Facet(torch.minimum(distance, nearest.distance), normal)
