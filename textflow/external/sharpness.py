"""Sharpness of a language model's readout: flips of its token under errors of the final hidden state."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from textflow.diagnostics.bootstrap import Sums
from textflow.diagnostics.dabi import adversarial_x0_pred
from textflow.diagnostics.facets import Facet, nearest_facets
from textflow.diagnostics.perturbation import DecodeFn, MeasureFn
from textflow.diagnostics.residual import sum_per_sequence
from textflow.external.error_response import LENGTHS, ErrorProbe, ErrorResponse, Sample
from textflow.types import Latents, Mask


def readout_sharpness(head: nn.Module, samples: Sequence[Sample], seeds: Sequence[int]) -> list[ErrorResponse]:
    """DABI of a last layer at the final hidden state, by flips [ours].

    A language model has no denoiser whose residual could be taken, so its errors are constructed.

    Args:
        head: final hidden states -> logits.
        samples: final hidden states [1, L, d] of each text, and the mask of those that are read out.
        seeds: random seed of each text.
    """
    probe = ErrorProbe(samples, partial(count_flips, head), seeds, counts_events=True)
    facets = [nearest_boundary(head, x) for x, _ in samples]
    responses = []
    for length in LENGTHS:
        moved = [move(x, facet, length * probe.std) for (x, _), facet in zip(samples, facets, strict=True)]
        responses.append(probe.respond("boundary", length, moved))
    return responses + probe.empirical()


def nearest_boundary(head: nn.Module, x: Latents) -> Facet:
    """The nearest decision boundaries of a last layer."""
    weights = head.weight.detach() if isinstance(head, nn.Linear) else None
    return nearest_facets(head, x, num_candidates=16, weights=weights)


def move(x: Latents, facet: Facet, length: float) -> Latents:
    """x moved by a length along the normal of the nearest boundary."""
    offset = torch.zeros_like(x)
    offset[..., 0] = length
    return adversarial_x0_pred(x, x + offset, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), facet)[0]


@torch.no_grad()
def count_flips(decode: DecodeFn, x: Latents, mask: Mask) -> MeasureFn:
    """Number of positions whose likeliest token differs from that at x."""
    clean = decode(x).argmax(-1)

    def measure(z: Latents) -> list[Sums]:
        return [sum_per_sequence(decode(z).argmax(-1) != clean, mask).cpu()]

    return measure
