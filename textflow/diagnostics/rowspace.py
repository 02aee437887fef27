"""Row space of a decoder: the latent directions its logits depend on."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.perturbation import Basis, DecodeFn
from textflow.diagnostics.residual import residual
from textflow.noise import Noise
from textflow.types import Latents, Mask


def linear_row_space(weight: Float[Tensor, "out d"], relative_tolerance: float = 1e-5) -> Basis:
    """Orthonormal basis of a linear map's row space, exact up to singular values below tolerance x the largest.

    Args:
        weight: matrix of the decoder's first linear map, or the product of consecutive linear maps.
        relative_tolerance: tolerance relative to the largest singular value, >= 0.
    """
    _, sizes, rows = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    return rows[sizes > relative_tolerance * sizes.max()].to(weight)


def estimate_row_space(
    decode: DecodeFn, z: Latents, mask: Mask, noise: Noise, energy_fraction: float = 0.99, num_probes: int = 16
) -> Basis:
    """Top directions of E[J^T J] that hold a share of its energy, J the logits' Jacobian at valid positions [ours].

    J^T g with g ~ N(0, I) has E[J^T g g^T J] = J^T J, so a backward pass gives one random row per position. Logits are
    centred, since softmax ignores a common shift. Use at least dim / positions probes.

    Args:
        decode: latents -> logits.
        z: latents of real text; a few sequences are enough.
        mask: True at text.
        noise: one stream per row.
        energy_fraction: share of the energy to retain, in (0, 1).
        num_probes: number of backward passes.
    """
    d = z.shape[-1]
    energy = torch.zeros(d, d, dtype=torch.float64, device=z.device)
    with torch.inference_mode(False), torch.enable_grad():
        point = z.detach().clone().requires_grad_()
        logits = decode(point)
        valid = mask.clone()[..., None]
        for _ in range(num_probes):
            g = noise.normal_like(logits)
            g = torch.where(valid, g - g.mean(-1, keepdim=True), 0)
            rows = torch.autograd.grad(logits, point, g, retain_graph=True)[0].double().reshape(-1, d)
            energy = energy + rows.T @ rows
    sizes, vectors = torch.linalg.eigh(energy)  # ascending
    cumulative = sizes.flip(0).clamp_min(0).cumsum(0)
    rank = int((cumulative < energy_fraction * cumulative[-1]).sum()) + 1
    return vectors.flip(1)[:, : min(rank, d)].T.to(z)


def row_energy_fraction(x: Latents, x0_pred: Latents, mask: Mask, row_basis: Basis) -> float:
    """sum |P r|^2 / sum |r|^2, float64: share of the residual's energy in the row space; rank / d if isotropic.

    Args:
        x: latents of real text.
        x0_pred: E[x | z_t].
        mask: True at text.
        row_basis: orthonormal rows, [rank, d].
    """
    r = residual(x, x0_pred, mask).double()
    total = float((r**2).sum())
    return float(((r @ row_basis.double().T) ** 2).sum()) / total if total > 0 else 0.0
