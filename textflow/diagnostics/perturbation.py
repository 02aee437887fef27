"""Response of a decoder to a residual, compared with random perturbations of the same length."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from textflow.diagnostics.bootstrap import Sums
from textflow.diagnostics.residual import latent_mask, residual, sum_per_sequence
from textflow.noise import Noise
from textflow.types import Latents, Logits, Mask

DecodeFn: TypeAlias = Callable[[Latents], Logits]
MeasureFn: TypeAlias = Callable[[Latents], list[Sums]]
Control: TypeAlias = Literal["full", "row", "covariance", "shuffled"]
Basis: TypeAlias = Float[Tensor, "rank d"]
NEEDED_BASIS = {
    "row": "the decoder's row space; compute it with estimate_row_space",
    "covariance": "a root of the latents' covariance; compute it with covariance_root",
}


def loss_and_flips(decode: DecodeFn, x: Latents, mask: Mask) -> MeasureFn:
    """Loss above the clean loss, and flips, of perturbed latents against the clean decode of x."""
    clean = decode(x)
    clean_ids = clean.argmax(-1)
    base = token_nll(clean, clean_ids)

    def measure(z: Latents) -> list[Sums]:
        logits = decode(z)
        rise, flip = token_nll(logits, clean_ids) - base, logits.argmax(-1) != clean_ids
        return [sum_per_sequence(rise, mask), sum_per_sequence(flip, mask)]

    return measure


def token_nll(logits: Logits, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """-log p(clean_ids), float64: a softplus, which stays accurate where p is close to 1."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    lead = logits - logits.gather(-1, ids[..., None])
    return F.softplus(lead.scatter(-1, ids[..., None], -torch.inf).logsumexp(-1).double(), threshold=40.0)


def compare_directions(
    measure: MeasureFn,
    x: Latents,
    x0_pred: Latents,
    mask: Mask,
    noise: Noise,
    residual_scale: float = 1.0,
    num_draws: int = 8,
    control: Control = "full",
    basis: Basis | None = None,
) -> tuple[list[Sums], list[Sums]]:
    """Measurements along the residual, and their sums over random directions of the same length."""
    r = residual(x, x0_pred, mask)
    along = measure(x + residual_scale * r)
    return along, sum_directions(measure, x, r, mask, noise, residual_scale, num_draws, control, basis)


def sum_directions(
    measure: MeasureFn,
    x: Latents,
    r: Latents,
    mask: Mask,
    noise: Noise,
    residual_scale: float,
    num_draws: int,
    control: Control,
    basis: Basis | None,
) -> list[Sums]:
    """Sums of the measurements over random directions of the residual's length; the arguments are those of `dabi`."""
    total = list[Sums]()
    for _ in range(num_draws):
        delta = random_directions(r, mask, noise, control, basis)
        sums = measure(x + residual_scale * delta)
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
    return total


def random_directions(r: Latents, mask: Mask, noise: Noise, control: Control, basis: Basis | None) -> Latents:
    """Random directions of each residual's length."""
    if control == "shuffled":
        return F.normalize(shuffle_residuals(r, mask, noise), dim=-1) * r.norm(dim=-1, keepdim=True)
    if control == "full":
        return F.normalize(noise.normal_like(r), dim=-1) * r.norm(dim=-1, keepdim=True)
    if basis is None:
        raise ValueError(f"control {control} needs basis, {NEEDED_BASIS[control]}")
    basis = basis.to(r)
    turned = noise.normal(r.shape[1], len(basis)).to(r)
    if control == "covariance":
        return F.normalize(turned @ basis, dim=-1) * r.norm(dim=-1, keepdim=True)
    return F.normalize(turned, dim=-1) * (r @ basis.T).norm(dim=-1, keepdim=True) @ basis


def covariance_root(latents: Float[Tensor, "N d"]) -> Basis:
    """A with A^T A the covariance of latents, float64: eps A has their covariance for normal eps.

    Args:
        latents: latents of real text, of all batches that are compared.
    """
    centred = latents.double() - latents.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(len(latents), 1))
    return values.clamp_min(0).sqrt()[:, None] * vectors.T


def shuffle_residuals(r: Latents, mask: Mask, noise: Noise) -> Latents:
    """Residuals permuted over the valid positions of their sequence; over the rows where each has a single latent."""
    mask, key = latent_mask(mask, r), noise.uniform(r.shape[1]).to(r.device)
    if r.shape[1] == 1:
        return permute_valid(r.transpose(0, 1), mask.T, key.T).transpose(0, 1)
    return permute_valid(r, mask, key)


def permute_valid(r: Latents, mask: Mask, key: Float[Tensor, "B L"]) -> Latents:
    """Latents of the valid positions in the order of a random key, and 0 elsewhere."""
    key = torch.where(mask, key, 2.0)  # padding comes last
    rank = (mask.long().cumsum(1) - 1).clamp_min(0)
    source = key.argsort(1).gather(1, rank)  # the rank-th valid position takes the rank-th of the shuffled
    return torch.where(mask[..., None], r.gather(1, source[..., None].expand_as(r)), 0)
