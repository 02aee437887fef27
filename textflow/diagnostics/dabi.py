"""DABI: how much more a denoiser's own residual hurts the decoder than noise of the same length [ours].

All valid positions are disturbed at once, without gradient. Memory is that of one readout of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.diagnostics.bootstrap import Ratio, Size, Sums, ratio
from textflow.diagnostics.facets import Facet
from textflow.diagnostics.perturbation import Basis, Control, Read, against, contrast
from textflow.diagnostics.residual import residual, seeds_of
from textflow.noise import Noise
from textflow.types import Latents, Mask

FLOOR = 1e-6  # nats a position
FACTORS = (0.25, 0.5, 0.8, 1.0, 1.5, 2.0)


class Response(NamedTuple):
    """Sums over the valid positions of each sequence; those of random disturbances are also over the draws.

    Args:
        positions: valid positions.
        loss: nats above the clean loss, along the residual.
        flips: tokens that differ from the clean decode, along the residual.
        random_loss: as loss, in random directions.
        random_flips: as flips, in random directions.
    """

    positions: Sums
    loss: Sums
    flips: Sums
    random_loss: Sums
    random_flips: Sums


@dataclass(frozen=True)
class Dabi:
    """Response along the residual over that in random directions of equal length [ours].

    Args:
        loss: of cross-entropies to the clean decode, nats a position (CE-DABI, the headline).
        flip: of flip rates, which no temperature moves (flip-DABI).
        f: length of the disturbance in residuals.
        control: what the random directions are.
        size: n positions, n sequences, J and the seed.
    """

    loss: Ratio
    flip: Ratio
    f: float
    control: str
    size: Size


@torch.no_grad()
def dabi(
    read: Read,
    x: Latents,
    guess: Latents,
    mask: Mask,
    noise: Noise,
    f: float = 1.0,
    draws: int = 8,
    control: Control = "full",
    row_basis: Basis | None = None,
) -> Dabi:
    """R(f r) / mean_j R(f |r_l| u_jl), R(delta) the mean of ell(x + delta) - ell(x), u uniform on the sphere [ours].

    Args:
        read: latents -> logits, clean.
        x: latents of real text.
        guess: E[x | z_t] at the last time before the text.
        mask: True where x is text.
        noise: one stream a sequence.
        f: length of the disturbance in residuals, > 0.
        draws: random directions of each position, J.
        control: `full` any direction; `row` those the decoder sees, of length |P r|; `shuffled` other positions'
            residuals at this one's length.
        row_basis: orthonormal, of the space the decoder sees; needed by `row`.
    """
    seen = respond(read, x, guess, mask, noise, f, draws, control, row_basis)
    return summary(seen, f, draws, control, dtype=dtype_of(x))


def sweep(
    read: Read,
    x: Latents,
    guess: Latents,
    mask: Mask,
    noise: Noise,
    factors: Sequence[float] = FACTORS,
    draws: int = 8,
    control: Control = "full",
    row_basis: Basis | None = None,
) -> list[Dabi]:
    """`dabi` at several lengths, with the same random directions at each.

    Args:
        factors: lengths f in residuals; the other arguments are those of `dabi`.
    """
    seeds = seeds_of(noise)
    return [dabi(read, x, guess, mask, Noise(seeds), f, draws, control, row_basis) for f in factors]


@torch.no_grad()
def respond(
    read: Read,
    x: Latents,
    guess: Latents,
    mask: Mask,
    noise: Noise,
    f: float = 1.0,
    draws: int = 8,
    control: Control = "full",
    row_basis: Basis | None = None,
) -> Response:
    """The sums that `dabi` is made of; several batches are `joined` before the `summary`. Arguments as in `dabi`."""
    along, random = contrast(against(read, x, mask), x, guess, mask, noise, f, draws, control, row_basis)
    return Response(mask.double().sum(1), *along, *random)


def summary(seen: Response, f: float, draws: int, control: str = "full", seed: int = 0, dtype: str = "float32") -> Dabi:
    """Ratios of means, their intervals and guards.

    Args:
        seen: sums of all sequences.
        f: length of the disturbance.
        draws: J of the sums.
        control: what the random directions were.
        seed: of the bootstrap.
        dtype: of the latents.
    """
    size = Size(int(seen.positions.sum()), len(seen.positions), draws, seed, dtype)
    loss = ratio(seen.loss, seen.random_loss, seen.positions, size, floor=FLOOR)
    return Dabi(loss, ratio(seen.flips, seen.random_flips, seen.positions, size, events=True), f, control, size)


def square(output: Tensor, clean: Tensor) -> Tensor:
    """Squared error a value."""
    return (output - clean) ** 2


@torch.no_grad()
def smooth(
    decode: Callable[[Latents], Tensor],
    x: Latents,
    guess: Latents,
    mask: Mask,
    noise: Noise,
    f: float = 1.0,
    draws: int = 8,
    loss: Callable[[Tensor, Tensor], Tensor] = square,
) -> Ratio:
    """`dabi` of a decoder whose output is not tokens: about 1 where no direction is special [ours].

    With squared error it lies between the least and the largest eigenvalue of J^T J over their mean.

    Args:
        decode: latents -> output [B, ...].
        loss: (output, clean output) -> loss a value or a sequence, [B, ...]; the other arguments are those of `dabi`.
    """
    clean = decode(x)

    def measure(z: Latents) -> list[Sums]:
        return [loss(decode(z), clean).double().reshape(len(x), -1).sum(1)]

    along, random = contrast(measure, x, guess, mask, noise, f, draws)
    size = Size(int(mask.sum()), len(x), draws, dtype=dtype_of(x))
    return ratio(along[0], random[0], mask.double().sum(1), size)


def adversarial(x: Latents, guess: Latents, mask: Mask, facet: Facet) -> tuple[Latents, float]:
    """A guess as far from x as the denoiser's, but along the nearest boundary's normal; and median delta* / |r|.

    Given to `dabi` in place of the guess, it shows what the worst direction would do [ours].

    Args:
        x: latents of real text.
        guess: E[x | z_t].
        mask: True where x is text.
        facet: of the readout at x.
    """
    length = residual(x, guess, mask).norm(dim=-1)
    reach = facet.distance[mask] / length[mask].double().clamp_min(torch.finfo(length.dtype).tiny)
    unit = F.normalize(facet.normal, dim=-1)
    return x + length[..., None] * unit, float(reach.median()) if len(reach) else torch.inf


def dtype_of(x: Tensor) -> str:
    """Name of a tensor's type."""
    return str(x.dtype).removeprefix("torch.")
