"""DABI: harm of a denoiser's residual to the decoder, relative to noise of the same length [ours].

All valid positions are perturbed at once, without gradient. Peak memory is one readout of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.diagnostics.bootstrap import Ratio, SampleSize, Sums, ratio_of_means
from textflow.diagnostics.facets import Facet
from textflow.diagnostics.perturbation import Basis, Control, DecodeFn, compare_directions, loss_and_flips
from textflow.diagnostics.residual import residual
from textflow.noise import Noise
from textflow.types import Latents, Mask

MIN_NATS = 1e-6  # nats per position
RESIDUAL_SCALES = (0.25, 0.5, 0.8, 1.0, 1.5, 2.0)


class Response(NamedTuple):
    """Sums over the valid positions of each sequence; random perturbations are also summed over draws.

    Args:
        num_positions: number of valid positions.
        loss: nats above the clean loss, along the residual.
        flips: tokens that differ from the clean decode, along the residual.
        random_loss: nats above the clean loss, in random directions.
        random_flips: tokens that differ from the clean decode, in random directions.
    """

    num_positions: Sums
    loss: Sums
    flips: Sums
    random_loss: Sums
    random_flips: Sums


@dataclass(frozen=True)
class DABIResult:
    """Response along the residual, divided by that in random directions of equal length [ours].

    Args:
        loss: ratio of cross-entropies to the clean decode (CE-DABI, the headline).
        flip: ratio of flip rates, invariant to temperature (flip-DABI).
        residual_scale: length of the perturbation in residuals.
        control: law of the random directions.
        size: numbers of positions, sequences and draws, and the seed.
    """

    loss: Ratio
    flip: Ratio
    residual_scale: float
    control: str
    size: SampleSize


@torch.no_grad()
def dabi(
    decode: DecodeFn,
    x: Latents,
    x0_pred: Latents,
    mask: Mask,
    noise: Noise,
    residual_scale: float = 1.0,
    num_draws: int = 8,
    control: Control = "full",
    basis: Basis | None = None,
) -> DABIResult:
    """R(f r) / mean_j R(f |r_l| u_jl), R(delta) the mean of ell(x + delta) - ell(x), u uniform on the sphere [ours].

    Args:
        decode: latents -> logits.
        x: latents of real text.
        x0_pred: E[x | z_t] at the last interior time.
        mask: True at text.
        noise: one stream per sequence.
        residual_scale: length of the perturbation in residuals, > 0.
        num_draws: number of random directions per position, J.
        control: `full` any direction; `row` within the decoder's row space, length |P r|; `covariance` directions drawn
            with the latents' own covariance [ours]; `shuffled` other positions' residuals at this one's length.
        basis: for `row` an orthonormal basis of the decoder's row space; for `covariance` `covariance_root`.
    """
    response = measure_response(decode, x, x0_pred, mask, noise, residual_scale, num_draws, control, basis)
    return summarise_response(response, residual_scale, num_draws, control, dtype=str(x.dtype).removeprefix("torch."))


@torch.no_grad()
def measure_response(
    decode: DecodeFn,
    x: Latents,
    x0_pred: Latents,
    mask: Mask,
    noise: Noise,
    residual_scale: float = 1.0,
    num_draws: int = 8,
    control: Control = "full",
    basis: Basis | None = None,
) -> Response:
    """Sums of a batch for `dabi`; join batches by `concat_batches` before `summarise_response`."""
    measure = loss_and_flips(decode, x, mask)
    along, random = compare_directions(measure, x, x0_pred, mask, noise, residual_scale, num_draws, control, basis)
    return Response(mask.double().sum(1), *along, *random)


def summarise_response(
    response: Response,
    residual_scale: float,
    num_draws: int,
    control: str = "full",
    seed: int = 0,
    dtype: str = "float32",
) -> DABIResult:
    """Ratios of means, their intervals and guards.

    Args:
        num_draws: number of random directions summed, J.
        seed: random seed of the bootstrap; the other arguments are recorded in the result.
    """
    n = response.num_positions
    size = SampleSize(int(n.sum()), len(n), num_draws, seed, dtype)
    loss = ratio_of_means(response.loss, response.random_loss, n, size, min_denominator=MIN_NATS)
    flip = ratio_of_means(response.flips, response.random_flips, n, size, counts_events=True)
    return DABIResult(loss, flip, residual_scale, control, size)


@torch.no_grad()
def continuous_dabi(
    decode: Callable[[Latents], Tensor],
    x: Latents,
    x0_pred: Latents,
    mask: Mask,
    noise: Noise,
    residual_scale: float = 1.0,
    num_draws: int = 8,
    loss: Callable[[Tensor, Tensor], Tensor] = partial(F.mse_loss, reduction="none"),
    control: Control = "full",
    basis: Basis | None = None,
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

    along, random = compare_directions(measure, x, x0_pred, mask, noise, residual_scale, num_draws, control, basis)
    size = SampleSize(int(mask.sum()), len(x), num_draws, dtype=str(x.dtype).removeprefix("torch."))
    return ratio_of_means(along[0], random[0], mask.double().sum(1), size)


def adversarial_x0_pred(x: Latents, x0_pred: Latents, mask: Mask, facet: Facet) -> tuple[Latents, float]:
    """A prediction at the denoiser's distance from x, along the nearest boundary's normal; and median delta* / |r|.

    Passed to `dabi` in place of the prediction, it gives the response in the worst direction [ours].

    Args:
        x: latents of real text.
        x0_pred: E[x | z_t].
        mask: True at text.
        facet: nearest boundary of the readout at x.
    """
    length = residual(x, x0_pred, mask).norm(dim=-1)
    ratio = facet.distance[mask] / length[mask].double().clamp_min(torch.finfo(length.dtype).tiny)
    unit = F.normalize(facet.normal, dim=-1)
    return x + length[..., None] * unit, float(ratio.median()) if len(ratio) else torch.inf
