"""Contrast: what a residual does to a decoder, beside random disturbances of the same length."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from textflow.diagnostics.bootstrap import Sums
from textflow.diagnostics.residual import per_sequence, residual
from textflow.noise import Noise
from textflow.types import Latents, Logits, Mask

Read: TypeAlias = Callable[[Latents], Logits]
Measure: TypeAlias = Callable[[Latents], list[Sums]]
Control: TypeAlias = Literal["full", "row", "shuffled"]
Basis: TypeAlias = Float[Tensor, "rank d"]


def against(read: Read, x: Latents, mask: Mask) -> Measure:
    """Loss above the clean loss, and flips, of disturbed latents against the clean decode of x."""
    clean = read(x)
    said = clean.argmax(-1)
    base = surprise(clean, said)

    def measure(z: Latents) -> list[Sums]:
        logits = read(z)
        rise, flip = surprise(logits, said) - base, logits.argmax(-1) != said
        return [per_sequence(rise, mask), per_sequence(flip, mask)]

    return measure


def surprise(logits: Logits, said: Int[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """-log p(said), float64: softplus of the others' lead, which keeps its digits where p is almost 1."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    lead = logits - logits.gather(-1, said[..., None])
    return F.softplus(lead.scatter(-1, said[..., None], -torch.inf).logsumexp(-1).double(), threshold=40.0)


def contrast(
    measure: Measure,
    x: Latents,
    guess: Latents,
    mask: Mask,
    noise: Noise,
    f: float = 1.0,
    draws: int = 8,
    control: Control = "full",
    basis: Basis | None = None,
) -> tuple[list[Sums], list[Sums]]:
    """What is measured along the residual, and summed over draws in random directions of the same length."""
    r = residual(x, guess, mask)
    along = measure(x + f * r)
    random = [torch.zeros_like(sums) for sums in along]
    for _ in range(draws):
        delta = elsewhere(r, mask, noise, control, basis)
        random = [total + sums for total, sums in zip(random, measure(x + f * delta), strict=True)]
    return along, random


def elsewhere(r: Latents, mask: Mask, noise: Noise, control: Control, basis: Basis | None) -> Latents:
    """Each position's residual turned elsewhere."""
    if control == "shuffled":
        return F.normalize(shuffled(r, mask, noise), dim=-1) * r.norm(dim=-1, keepdim=True)
    if control == "full":
        return F.normalize(noise.normal_like(r), dim=-1) * r.norm(dim=-1, keepdim=True)
    if basis is None:
        raise ValueError("control row needs row_basis, the directions that the decoder sees; row_space finds them")
    turned = noise.normal(r.shape[1], len(basis)).to(r)
    return F.normalize(turned, dim=-1) * (r @ basis.T).norm(dim=-1, keepdim=True) @ basis


def shuffled(r: Latents, mask: Mask, noise: Noise) -> Latents:
    """Residuals permuted over the valid positions of their sequence."""
    key = torch.where(mask, noise.uniform(r.shape[1]).to(mask.device), 2.0)  # padding comes last
    rank = (mask.long().cumsum(1) - 1).clamp_min(0)
    source = key.argsort(1).gather(1, rank)  # the rank-th valid position takes the rank-th of the shuffled
    return torch.where(mask[..., None], r.gather(1, source[..., None].expand_as(r)), 0)
