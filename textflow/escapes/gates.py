"""Gates: the positions where an escape commits, by the confidence of the token posterior.

A model without a token posterior has only distances from its mean to the readout's boundaries; no gate here uses them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.escapes.base import Gate
from textflow.types import Latents, Logits, PositionMask


def confidence(logits: Logits) -> Float[Tensor, "B L"]:
    """max over tokens of p(token | z_t), in float64."""
    logits = logits.double()
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()


def most_confident(logits: Logits, fraction: float) -> PositionMask:
    """True on this fraction of each row's positions, the most confident ones; ties go to the first."""
    order = confidence(logits).argsort(stable=True, descending=True)
    return order.argsort(-1) < round(fraction * logits.shape[1])


def checked(name: str, value: float) -> float:
    """A fraction or probability, checked to be in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} = {value}: the gate needs a number in [0, 1]")
    return value


class Everywhere(Gate):
    """All positions."""

    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        return torch.ones(mean.shape[:2], dtype=torch.bool, device=mean.device)


class LowConfidence(Gate):
    """Positions with max p < theta: the tube around the boundaries between tokens [ours].

    Args:
        theta: probability of the top token, in [0, 1]; 1 is nearly everywhere.
    """

    def __init__(self, theta: float = 0.8) -> None:
        super().__init__()
        self.theta = checked("theta", theta)

    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        return confidence(logits) < self.theta


class HighConfidence(Gate):
    """Positions with max p >= theta; the others keep the posterior mean.

    Args:
        theta: probability of the top token, in [0, 1]; 0 is everywhere.
    """

    def __init__(self, theta: float = 0.8) -> None:
        super().__init__()
        self.theta = checked("theta", theta)

    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        return confidence(logits) >= self.theta


class MarginGate(Gate):
    """Positions whose margin log p1 - log p2 between the two likeliest tokens is on one side of a threshold.

    Args:
        margin: threshold in nats.
        side: `above` takes margins of at least the threshold (confident positions), `below` the others.
    """

    def __init__(self, margin: float = 1.0, side: Literal["above", "below"] = "above") -> None:
        super().__init__()
        self.margin, self.side = margin, side

    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        first, second = logits.topk(2).values.double().unbind(-1)
        return (first - second >= self.margin) == (self.side == "above")


class TopFraction(Gate):
    """The most confident positions of each row.

    Args:
        fraction: fraction of the positions, in [0, 1].
    """

    def __init__(self, fraction: float = 0.5) -> None:
        super().__init__()
        self.fraction = checked("fraction", fraction)

    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        return most_confident(logits, self.fraction)


class ConfidenceSchedule(Gate):
    """The most confident positions, a fraction that is linear in time, as masked diffusion unmasks (MaskGIT,
    2202.04200, with confidence); positions are selected again at each step.

    Args:
        start: fraction of the positions at t = 0, in [0, 1].
        end: fraction of the positions at t = 1, in [0, 1].
    """

    def __init__(self, start: float = 0.0, end: float = 1.0) -> None:
        super().__init__()
        self.start, self.end = checked("start", start), checked("end", end)

    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        return most_confident(logits, (1 - t) * self.start + t * self.end)
