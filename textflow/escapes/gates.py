"""Gates: where a choice is made, by how sure the token posterior is at each position.

A model without one has only distances (from its mean to the nearest boundary of the readout): no gate here takes them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.escapes.base import Gate
from textflow.types import Choice, Latents, Logits


def confidence(logits: Logits) -> Float[Tensor, "B L"]:
    """max over tokens of p(token | z_t), in float64."""
    logits = logits.double()
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()


def surest(logits: Logits, share: float) -> Choice:
    """True on this share of each row's positions, the most confident ones; of equals the first."""
    order = confidence(logits).argsort(stable=True, descending=True)
    return order.argsort(-1) < round(share * logits.shape[1])


def checked(name: str, share: float) -> float:
    """A share or a probability."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} = {share}: the gate needs a number in [0, 1]")
    return share


class All(Gate):
    """Everywhere."""

    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        return torch.ones(mean.shape[:2], dtype=torch.bool, device=mean.device)


class Tube(Gate):
    """Where max p < theta: in the tube around the boundaries between tokens, where the readout is unsure [ours].

    Args:
        theta: probability of the top token, in [0, 1]; 1 is nearly everywhere.
    """

    def __init__(self, theta: float = 0.8) -> None:
        super().__init__()
        self.theta = checked("theta", theta)

    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        return confidence(logits) < self.theta


class Confident(Gate):
    """Where max p >= theta: what is nearly sure is settled, the rest stays soft.

    Args:
        theta: probability of the top token, in [0, 1]; 0 is everywhere.
    """

    def __init__(self, theta: float = 0.8) -> None:
        super().__init__()
        self.theta = checked("theta", theta)

    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        return confidence(logits) >= self.theta


class Margin(Gate):
    """Where the top token's lead over the second, log p1 - log p2, is on one side of a threshold.

    Args:
        lead: the threshold, nats (the same number in logits and in log-probabilities).
        side: `above` (at least the lead) chooses what is sure, `below` what is not.
    """

    def __init__(self, lead: float = 1.0, side: Literal["above", "below"] = "above") -> None:
        super().__init__()
        self.lead, self.side = lead, side

    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        first, second = logits.topk(2).values.double().unbind(-1)
        return (first - second >= self.lead) == (self.side == "above")


class Top(Gate):
    """The most confident positions of each row.

    Args:
        share: of the positions, in [0, 1].
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = checked("share", share)

    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        return surest(logits, self.share)


class Schedule(Gate):
    """The most confident positions, a share that moves evenly with time, as masked diffusion unmasks (MaskGIT,
    2202.04200, with confidence); a choice is made anew each time.

    Args:
        start: share at t = 0, in [0, 1].
        end: share at t = 1, in [0, 1].
    """

    def __init__(self, start: float = 0.0, end: float = 1.0) -> None:
        super().__init__()
        self.start, self.end = checked("start", start), checked("end", end)

    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        return surest(logits, (1 - t) * self.start + t * self.end)
