"""Readouts of continuous text that were not trained here: a table of embeddings, and a linear readout of an encoder."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.diagnostics.perturbation import DecodeFn
from textflow.external.error_response import ErrorProbe, ErrorResponse, Sample
from textflow.external.sharpness import count_flips

BANK_SIZE = 8192  # latents in the bank, at most
RIDGE = 1e-3  # share of the identity in the covariance of a linear discriminant


def nearest_embedding(table: Float[Tensor, "V d"]) -> DecodeFn:
    """Readout of the nearest embedding: logits z E^T - |E|^2 / 2."""
    table = table.detach()
    offset = table.square().sum(1) / 2
    return lambda z: z @ table.T - offset


def linear_discriminant(states: Float[Tensor, "N d"], ids: Int[Tensor, " N"]) -> tuple[DecodeFn, Int[Tensor, " V"]]:
    """Linear discriminant of tokens given an encoder's states (Fisher), and the token of each of its logits.

    logits = z S^-1 m^T - m S^-1 m / 2 + log share, m the mean state of a token and S the covariance within tokens,
    shrunk to the identity.

    Args:
        states: states of real text.
        ids: their tokens.
    """
    tokens, index, counts = torch.unique(ids, return_inverse=True, return_counts=True)
    rows = states.double()
    means = torch.zeros(len(tokens), rows.shape[1], dtype=torch.float64).index_add_(0, index, rows) / counts[:, None]
    within = rows - means[index]
    covariance = within.T @ within / len(rows)
    scale = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    weight = torch.linalg.solve((1 - RIDGE) * covariance + RIDGE * scale, means.T)
    bias = (counts / len(rows)).log() - (means * weight.T).sum(1) / 2
    weight, bias = weight.to(states), bias.to(states)
    return lambda z: z @ weight + bias, tokens


def text_response(
    decode: DecodeFn, samples: Sequence[Sample], bank: Float[Tensor, "N d"], seeds: list[int], lengths: Sequence[float]
) -> list[ErrorResponse]:
    """Flips along the residual of the empirical posterior, and its DABI [ours].

    Args:
        decode: latents -> logits.
        samples: latents of each text [1, S, d], and the mask of those that are read out.
        bank: latents of other texts, of which the first 8,192 are used.
        seeds: random seed of each text.
        lengths: lengths of the noise, in standard deviations of the latents.
    """
    flips = partial(count_flips, decode)
    return ErrorProbe(samples, flips, seeds, True, bank=bank[:BANK_SIZE], lengths=lengths).empirical()
