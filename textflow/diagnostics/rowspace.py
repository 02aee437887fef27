"""The directions of the latents that a decoder sees."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.perturbation import Basis, Read
from textflow.diagnostics.residual import residual
from textflow.noise import Noise
from textflow.types import Latents, Mask


def row_space(weight: Float[Tensor, "out d"], tolerance: float = 1e-5) -> Basis:
    """Orthonormal basis of a linear map's row space, exact up to singular values below tolerance x the largest.

    Args:
        weight: of the decoder's first linear map, of all of them where several follow each other.
        tolerance: relative, >= 0.
    """
    _, sizes, rows = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    return rows[sizes > tolerance * sizes.max()].to(weight)


def seen_directions(read: Read, z: Latents, mask: Mask, noise: Noise, share: float = 0.99, probes: int = 16) -> Basis:
    """Top directions of E[J^T J] that hold a share of its energy, J the logits' Jacobian at valid positions [ours].

    J^T g with g ~ N(0, I) has E[J^T g g^T J] = J^T J, so a pass back gives one random row of each position. Logits have
    no common part here, as the softmax sees none. Use at least dim / positions probes.

    Args:
        read: latents -> logits.
        z: latents of real text; a few sequences are enough.
        mask: True where z is text.
        noise: one stream a sequence.
        share: of the energy, in (0, 1).
        probes: passes back.
    """
    d = z.shape[-1]
    energy = torch.zeros(d, d, dtype=torch.float64, device=z.device)
    with torch.inference_mode(False), torch.enable_grad():
        point = z.detach().clone().requires_grad_()
        logits = read(point)
        valid = mask.clone()[..., None]
        for _ in range(probes):
            g = noise.normal_like(logits)
            g = torch.where(valid, g - g.mean(-1, keepdim=True), 0)
            rows = torch.autograd.grad(logits, point, g, retain_graph=True)[0].double().reshape(-1, d)
            energy = energy + rows.T @ rows
    sizes, vectors = torch.linalg.eigh(energy)  # ascending
    held = sizes.flip(0).clamp_min(0).cumsum(0)
    rank = int((held < share * held[-1]).sum()) + 1
    return vectors.flip(1)[:, : min(rank, d)].T.to(z)


def row_fraction(x: Latents, guess: Latents, mask: Mask, basis: Basis) -> float:
    """sum |P r|^2 / sum |r|^2, float64: share of the residual that the decoder sees; rank / d for an isotropic one.

    Args:
        x: latents of real text.
        guess: E[x | z_t].
        mask: True where x is text.
        basis: orthonormal rows.
    """
    r = residual(x, guess, mask).double()
    whole = float((r**2).sum())
    return float(((r @ basis.double().T) ** 2).sum()) / whole if whole > 0 else 0.0
