"""Spectral norms of linear maps given by their matrix-vector products."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from textflow.types import Latents

LinearMap: TypeAlias = Callable[[Latents], Latents]
TINY = torch.finfo(torch.float64).tiny


class SpectralNorm(NamedTuple):
    """Largest singular value per row, its spread over the starts, and its singular direction."""

    value: Float[Tensor, " B"]
    spread: Float[Tensor, " B"]
    direction: Latents


@contextmanager
def forward_mode() -> Iterator[None]:
    """Context for forward-mode products: no inference mode, no gradients of the weights, math attention."""
    with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def row_norm(v: Latents) -> Float[Tensor, " B"]:
    """|v| per row, float64."""
    return torch.linalg.vector_norm(v.flatten(1), dim=-1, dtype=torch.float64)


def unit_rows(v: Latents) -> Latents:
    """v / |v| per row; 0 stays 0."""
    length = row_norm(v)[:, None, None]
    return torch.where(length > 0, v / length.clamp_min(TINY), 0.0).to(v.dtype)


def spectral_norm(
    jvp: LinearMap, vjp: LinearMap, start_directions: Float[Tensor, "n B S d"], num_iterations: int = 8
) -> SpectralNorm:
    """|J|_2 per row, a lower bound: the maximum over the starts.

    Lanczos: the products are those of power iteration on J^T J, but the result is the best vector in the span of the
    iterates. With many similar singular values the last iterate is far off, equally for all starts.

    Args:
        jvp: v -> J v.
        vjp: u -> J^T u.
        start_directions: starting directions, n per row.
        num_iterations: number of products with J and J^T, >= 1.
    """
    tops = [lanczos(jvp, vjp, start, num_iterations) for start in start_directions]
    values = torch.stack([value for value, _ in tops])  # [n, B]
    directions = torch.stack([direction for _, direction in tops])
    value, best = values.max(0)
    spread = (value - values.amin(0)) / value.clamp_min(TINY)
    return SpectralNorm(value, spread, directions[best, torch.arange(len(value), device=value.device)])


def lanczos(jvp: LinearMap, vjp: LinearMap, start: Latents, num_iterations: int) -> tuple[Float[Tensor, " B"], Latents]:
    """The largest |J v| of unit vectors v in the span of (J^T J)^i start, i < iterations, and that v."""
    basis, images, v = [], [], unit_rows(start)
    for _ in range(num_iterations):
        basis.append(v)
        images.append(jvp(v))
        v = new_direction(unit_rows(vjp(images[-1])), basis)
    flat = torch.stack(images, 1).flatten(2).double()  # [B, i, S d]
    broken = ~flat.isfinite().flatten(1).all(-1)  # the norm is NaN there
    squares, mixes = torch.linalg.eigh((flat @ flat.mT).masked_fill(broken[:, None, None], 0.0))
    value = squares[:, -1].clamp_min(0).sqrt().masked_fill(broken, torch.nan)
    return value, torch.einsum("bi,ibsd->bsd", mixes[:, :, -1].to(v), torch.stack(basis))


def new_direction(v: Latents, basis: list[Latents]) -> Latents:
    """Component of v outside the span of a basis, as a unit vector; 0 where it is only rounding error."""
    outside = project_out(unit_rows(project_out(v, basis)), basis)
    return torch.where(row_norm(outside)[:, None, None] > 0.5, unit_rows(outside), 0.0)


def project_out(v: Latents, basis: list[Latents]) -> Latents:
    """v minus its components along orthonormal vectors (or zeros)."""
    for b in basis:
        v = v - (b * v).flatten(1).sum(-1)[:, None, None] * b
    return v
