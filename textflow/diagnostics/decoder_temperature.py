"""Decoders at another temperature or mixed with the uniform law: these change the loss but no flip [ours].

The decoder's temperature alone can make the loss-based DABI large or small, but not the flip-based one. Only the
distance of the codes in units of the residual changes flips.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from textflow.diagnostics.dabi import DABIResult, dabi
from textflow.diagnostics.perturbation import DecodeFn
from textflow.diagnostics.residual import stream_seeds
from textflow.noise import Noise
from textflow.types import Latents, Logits, Mask


class DecoderVariant(NamedTuple):
    """Response of a modified decoder.

    Args:
        change: temperature, or uniform_mix, the share moved to the uniform law.
        amount: size of the change; temperature 1 and uniform_mix 0 leave the decoder unchanged.
        dabi: its DABI, with the same random directions for each change.
    """

    change: str
    amount: float
    dabi: DABIResult


def scale_logits(logits: Logits, temperature: float) -> Logits:
    """logits / temperature, temperature > 0."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} inverts the decoder or is undefined; it needs a value above 0")
    return logits / temperature


def shrink_to_uniform(logits: Logits, uniform_share: float) -> Logits:
    """log((1 - share) p + share / V), share in [0, 1): probabilities shrink towards uniform."""
    if not 0 <= uniform_share < 1:
        raise ValueError(f"got uniform_share={uniform_share}; the share must be in [0, 1)")
    if uniform_share == 0:
        return logits
    uniform = torch.full_like(logits, math.log(uniform_share / logits.shape[-1]))
    return torch.logaddexp(logits.log_softmax(-1) + math.log1p(-uniform_share), uniform)


def sweep_decoder(
    decode: DecodeFn,
    x: Latents,
    x0_pred: Latents,
    mask: Mask,
    noise: Noise,
    temperatures: Sequence[float] = (0.25, 1.0, 4.0, 16.0),
    uniform_shares: Sequence[float] = (0.1, 0.5, 0.9),
    num_draws: int = 8,
) -> list[DecoderVariant]:
    """`dabi` of the decoder under each change.

    Args:
        temperatures: divisors of the logits, > 0.
        uniform_shares: shares of the probability that become uniform, in [0, 1); the other arguments are those of
            `dabi`.
    """
    seeds = stream_seeds(noise)

    def probe(change: Callable[[Logits], Logits]) -> DABIResult:
        return dabi(lambda z: change(decode(z)), x, x0_pred, mask, Noise(seeds), num_draws=num_draws)

    scaled = [("temperature", amount, partial(scale_logits, temperature=amount)) for amount in temperatures]
    mixed = [("uniform_mix", amount, partial(shrink_to_uniform, uniform_share=amount)) for amount in uniform_shares]
    return [DecoderVariant(name, amount, probe(change)) for name, amount, change in scaled + mixed]
