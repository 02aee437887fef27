"""Blunt decoders: changes of the decoder that move no flip, only the loss [ours].

A DABI of losses can be made large or small by the decoder's temperature alone; that of flips cannot. Only the distance
of the codes in units of the residual changes flips.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from textflow.diagnostics.dabi import Dabi, dabi
from textflow.diagnostics.perturbation import Basis, Control, Read
from textflow.diagnostics.residual import seeds_of
from textflow.noise import Noise
from textflow.types import Latents, Logits, Mask


class Blunt(NamedTuple):
    """A changed decoder's response.

    Args:
        change: temperature, or shrink: the share that is moved to uniform.
        amount: of the change; temperature 1 and shrink 0 are the decoder itself.
        dabi: with the same random directions for each change.
    """

    change: str
    amount: float
    dabi: Dabi


def heated(logits: Logits, temperature: float) -> Logits:
    """logits / temperature, temperature > 0."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} turns the decoder around or stops it; it needs one above 0")
    return logits / temperature


def shrunk(logits: Logits, share: float) -> Logits:
    """log((1 - share) p + share / V), share in [0, 1): probabilities shrink towards uniform."""
    if not 0 <= share < 1:
        raise ValueError(f"shrink by a share of {share}: it needs one in [0, 1), as 1 leaves nothing to read")
    if share == 0:
        return logits
    uniform = torch.full_like(logits, math.log(share / logits.shape[-1]))
    return torch.logaddexp(logits.log_softmax(-1) + math.log1p(-share), uniform)


def blunt(
    read: Read,
    x: Latents,
    guess: Latents,
    mask: Mask,
    noise: Noise,
    temperatures: Sequence[float] = (0.25, 1.0, 4.0, 16.0),
    shrinks: Sequence[float] = (0.1, 0.5, 0.9),
    f: float = 1.0,
    draws: int = 8,
    control: Control = "full",
    row_basis: Basis | None = None,
) -> list[Blunt]:
    """`dabi` of the decoder under each change.

    Args:
        temperatures: that the logits are divided by, > 0.
        shrinks: shares of the probability that become uniform, in [0, 1); the other arguments are those of `dabi`.
    """
    seeds = seeds_of(noise)

    def probe(change: Callable[[Logits], Logits]) -> Dabi:
        return dabi(lambda z: change(read(z)), x, guess, mask, Noise(seeds), f, draws, control, row_basis)

    heats = [Blunt("temperature", amount, probe(partial(heated, temperature=amount))) for amount in temperatures]
    return heats + [Blunt("shrink", amount, probe(partial(shrunk, share=amount))) for amount in shrinks]
