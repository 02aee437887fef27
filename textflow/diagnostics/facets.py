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
        normal_component: r . nu, component of the residual along the boundary's unit normal, latent units.
        normal: unit normal nu, pointing out of the cell; 0 without a boundary.
    """

    distance: Float[Tensor, "B L"]
    normal_component: Float[Tensor, "B L"]
    normal: Latents


def nearest_facets(
    decode: DecodeFn, z: Latents, r: Latents, num_candidates: int = 32, weights: Float[Tensor, "V d"] | None = None
) -> Facet:
    """Margin distance and normal of the active facet of each position [ours].

    Exact for a readout that is linear in the latents, first order otherwise. The readout must treat positions
    separately (one backward pass per candidate); use `nearest_joint_facets` for one that mixes positions.

    Args:
        decode: latents -> logits, position by position.
        z: latents at which the nearest boundary is computed.
        r: residual at z.
        num_candidates: number of runner-up tokens whose boundaries are tested, >= 1.
        weights: weights of a linear readout, used instead of its gradients.
    """
    with torch.inference_mode(False), torch.enable_grad():
        point = z.detach().clone().requires_grad_(weights is None)
        logits = decode(point)
        if logits.shape[:2] != point.shape[:2]:
            raise ValueError(
                f"the nearest boundaries need a latent a token, but {logits.shape[1]} tokens have {point.shape[1]} "
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
            nearest = nearer_facet(nearest, gap.detach(), slope, r)
    return nearest


def nearest_joint_facets(
    decode: DecodeFn, z: Latents, r: Latents, positions: list[int], num_candidates: int = 32
) -> Facet:
    """`nearest_facets` of a readout that mixes positions: the gradient is taken over all latents of the row.

    It costs len(positions) x candidates backward passes. `distance` is infinite at all other positions; `normal` holds
    the component at the position itself.

    Args:
        positions: indices of the positions to evaluate; the other arguments are those of `nearest_facets`.
    """

    def decode_position(at: int, row: Latents) -> Logits:
        return decode(row.reshape(z.shape))[:, at : at + 1]

    facet, flat, flat_r = no_facet(z), z.flatten(1)[:, None], r.flatten(1)[:, None]  # one position of S d coordinates
    for at in positions:
        nearest = nearest_facets(partial(decode_position, at), flat, flat_r, num_candidates)
        facet.distance[:, at], facet.normal_component[:, at] = nearest.distance[:, 0], nearest.normal_component[:, 0]
        facet.normal[:, at] = nearest.normal.reshape(z.shape)[:, at]
    return facet


def no_facet(z: Latents) -> Facet:
    """Facets at infinite distance, the initial value of the search."""
    far = torch.full(z.shape[:2], torch.inf, dtype=torch.float64, device=z.device)
    return Facet(far, torch.zeros_like(far), torch.zeros_like(z))


def nearer_facet(nearest: Facet, gap: Float[Tensor, "B L"], slope: Latents, r: Latents) -> Facet:
    """The nearer of a boundary and the one where gap falls to 0 along -slope."""
    steep = slope.double().norm(dim=-1)
    distance = torch.where(steep < MIN_SLOPE, torch.inf, gap.double() / steep.clamp_min(MIN_SLOPE))
    closer = distance < nearest.distance
    normal = torch.where(closer[..., None], -slope / steep.clamp_min(MIN_SLOPE).to(slope)[..., None], nearest.normal)
    component = torch.where(closer, (r.double() * normal.double()).sum(-1), nearest.normal_component)
    return Facet(torch.minimum(distance, nearest.distance), component, normal)
