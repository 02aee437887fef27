"""Facets: the nearest boundaries of the readout's cells, to first order."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.types import Latents, Logits

FLAT = 1e-4  # a slope below which two tokens share no boundary


class Facet(NamedTuple):
    """The nearest boundary of each position's cell.

    Args:
        distance: delta* = min_j (l_y - l_j) / |grad (l_y - l_j)|, latent units; infinite where there is none.
        lean: component r . nu of a residual along the boundary's unit normal, latent units.
        normal: nu, which points out of the cell; 0 where there is no boundary.
    """

    distance: Float[Tensor, "B L"]
    lean: Float[Tensor, "B L"]
    normal: Latents


def facets(
    read: Callable[[Latents], Logits],
    z: Latents,
    r: Latents,
    candidates: int = 32,
    weights: Float[Tensor, "V d"] | None = None,
) -> Facet:
    """Margin distance and normal of the active facet of each position [ours].

    Exact for a readout that is linear in the latents, first order for any other. The readout is taken position by
    position (one backward pass a candidate): for one that mixes positions see `joint_facets`.

    Args:
        read: latents -> logits, each position by itself.
        z: where the boundary is sought.
        r: residual at z.
        candidates: tokens with the largest logits after the first that may lie beyond the boundary, >= 1.
        weights: of a linear readout, instead of its gradients.
    """
    with torch.inference_mode(False), torch.enable_grad():
        point = z.detach().clone().requires_grad_(weights is None)
        best, tokens = top(read(point), candidates)
        found = start(point.detach(), r)
        for j in range(1, best.shape[-1]):
            gap = best[..., 0] - best[..., j]
            if weights is None:
                slope = torch.autograd.grad(gap.sum(), point, retain_graph=True)[0]
            else:
                slope = weights[tokens[..., 0]] - weights[tokens[..., j]]
            found = nearer(found, gap.detach(), slope, r)
    return found


def joint_facets(
    read: Callable[[Latents], Logits], z: Latents, r: Latents, positions: list[int], candidates: int = 32
) -> Facet:
    """`facets` of a readout that mixes positions: the gradient runs over the whole row (len(positions) x candidates
    backward passes). `distance` is infinite where it was not sought; `normal` keeps the position's own part.

    Args:
        read: latents -> logits.
        z: where the boundary is sought.
        r: residual at z.
        positions: where a boundary is sought.
        candidates: as in `facets`.
    """
    whole = start(z.detach().clone(), r)
    with torch.inference_mode(False), torch.enable_grad():
        point = z.detach().clone().requires_grad_()
        best, _ = top(read(point), candidates)
        for at in positions:
            found = start(point.detach().flatten(1)[:, None], r.flatten(1)[:, None])  # one position of S d coordinates
            for j in range(1, best.shape[-1]):
                gap = best[:, at, 0] - best[:, at, j]
                slope = torch.autograd.grad(gap.sum(), point, retain_graph=True)[0]
                found = nearer(found, gap.detach()[:, None], slope.flatten(1)[:, None], r.flatten(1)[:, None])
            whole.distance[:, at], whole.lean[:, at] = found.distance[:, 0], found.lean[:, 0]
            whole.normal[:, at] = found.normal.reshape(z.shape)[:, at]
    return whole


def top(logits: Logits, candidates: int) -> tuple[Tensor, Tensor]:
    """The largest logits and their tokens, the first one's own included."""
    best, tokens = logits.topk(min(candidates + 1, logits.shape[-1]), dim=-1)
    return best, tokens


def start(z: Latents, r: Latents) -> Facet:
    """No boundary yet."""
    far = torch.full(z.shape[:2], torch.inf, dtype=torch.float64, device=z.device)
    return Facet(far, torch.zeros_like(far), torch.zeros_like(z))


def nearer(found: Facet, gap: Float[Tensor, "B L"], slope: Latents, r: Latents) -> Facet:
    """The nearer of the boundaries found so far and the one where gap falls to 0 along -slope."""
    steep = slope.double().norm(dim=-1)
    distance = torch.where(steep < FLAT, torch.inf, gap.double() / steep.clamp_min(FLAT))
    closer = distance < found.distance
    normal = torch.where(closer[..., None], -slope / steep.clamp_min(FLAT).to(slope)[..., None], found.normal)
    lean = torch.where(closer, (r.double() * normal.double()).sum(-1), found.lean)
    return Facet(torch.minimum(distance, found.distance), lean, normal)
