"""Spectral norms of maps that are known by their products alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from textflow.types import Latents

Product: TypeAlias = Callable[[Latents], Latents]
TINY = torch.finfo(torch.float64).tiny


class Top(NamedTuple):
    """Largest singular value a row, its spread over the starts, and the direction that is stretched most."""

    value: Float[Tensor, " B"]
    spread: Float[Tensor, " B"]
    direction: Latents


@contextmanager
def differentiable() -> Iterator[None]:
    """Where forward-mode products work: no inference mode, no graph of the weights, attention by plain operations."""
    with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def size(v: Latents) -> Float[Tensor, " B"]:
    """|v| a row, float64."""
    return torch.linalg.vector_norm(v.flatten(1), dim=-1, dtype=torch.float64)


def unit(v: Latents) -> Latents:
    """v / |v| a row; 0 stays 0."""
    length = size(v)[:, None, None]
    return torch.where(length > 0, v / length.clamp_min(TINY), 0.0).to(v.dtype)


def spectral_norm(push: Product, pull: Product, starts: Float[Tensor, "n B S d"], iterations: int = 8) -> Top:
    """|J|_2 a row, from below: the best of the starts counts.

    The products are those of power iteration on J^T J, but the best vector in the span of its iterates is taken, not
    the last (Lanczos): where many directions are stretched alike the last one is far off, and all starts alike.

    Args:
        push: v -> J v.
        pull: u -> J^T u.
        starts: directions.
        iterations: of push and pull, >= 1.
    """
    tops = [lanczos(push, pull, start, iterations) for start in starts]
    found = torch.stack([value for value, _ in tops])  # [n, B]
    ends = torch.stack([end for _, end in tops])
    value, best = found.max(0)
    spread = (value - found.amin(0)) / value.clamp_min(TINY)
    return Top(value, spread, ends[best, torch.arange(len(value), device=value.device)])


def lanczos(push: Product, pull: Product, start: Latents, iterations: int) -> tuple[Float[Tensor, " B"], Latents]:
    """The largest |J v| of unit vectors v in the span of (J^T J)^i start, i < iterations, and that v."""
    basis, images, v = [], [], unit(start)
    for _ in range(iterations):
        basis.append(v)
        images.append(push(v))
        v = fresh(unit(pull(images[-1])), basis)
    flat = torch.stack(images, 1).flatten(2).double()  # [B, i, S d]
    broken = ~flat.isfinite().flatten(1).all(-1)  # the norm is NaN there
    squares, mixes = torch.linalg.eigh((flat @ flat.mT).masked_fill(broken[:, None, None], 0.0))
    value = squares[:, -1].clamp_min(0).sqrt().masked_fill(broken, torch.nan)
    return value, torch.einsum("bi,ibsd->bsd", mixes[:, :, -1].to(v), torch.stack(basis))


def fresh(v: Latents, basis: list[Latents]) -> Latents:
    """What of v lies outside the span of a basis, as a unit vector; 0 where that is but rounding."""
    rest = outside(unit(outside(v, basis)), basis)
    return torch.where(size(rest)[:, None, None] > 0.5, unit(rest), 0.0)


def outside(v: Latents, basis: list[Latents]) -> Latents:
    """v less its components along orthonormal vectors (or zeros)."""
    for b in basis:
        v = v - (b * v).flatten(1).sum(-1)[:, None, None] * b
    return v
