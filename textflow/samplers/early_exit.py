"""Early stop: a row whose tokens are settled takes no further passes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.types import Denoise, Latents, Logits, Posterior, Rows


@dataclass(frozen=True)
class EarlyStop:
    """A row stops once nearly all its positions have led by enough, several calls in a row (2606.08810, margin gate).

    Args:
        lead: of the top token over the second, log p1 - log p2, nats.
        share: of a row's positions that may lead by less, in [0, 1].
        patience: calls in a row, at least 1; those at t = 0, where z tells nothing, do not count.
    """

    lead: float
    share: float = 0.1
    patience: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.patience < 1:
            raise ValueError(
                f"EarlyStop got share {self.share} and patience {self.patience}; it needs a share in [0, 1] and a "
                "patience of at least 1"
            )

    def watch(self, denoise: Denoise, tokens: Callable[[Latents, float, Posterior], Logits]) -> "Watched":
        """`denoise` of one sampling run; the beliefs after t = 0 carry the logits of `tokens`.

        Args:
            denoise: the bare net (an escape comes after, over all rows: its streams are the whole batch's).
            tokens: z, t and belief of some rows -> their logits of p(token | z_t).
        """
        return Watched(self, denoise, tokens)

    def settled(self, logits: Logits) -> Rows:
        """True on rows whose lead, at this share of positions from below, is enough."""
        first, second = logits.topk(2).values.double().unbind(-1)
        return torch.quantile(first - second, self.share, dim=-1) >= self.lead


class Watched:
    """A Denoise that remembers: rows that have stopped are answered from memory.

    Args:
        rule: when a row stops.
        denoise: the bare net.
        tokens: logits of its beliefs.
    """

    def __init__(
        self, rule: EarlyStop, denoise: Denoise, tokens: Callable[[Latents, float, Posterior], Logits]
    ) -> None:
        self.rule, self.denoise, self.tokens = rule, denoise, tokens
        self.passes: list[int] = []  # rows that passed the net, a call
        self.streak: Int[Tensor, " B"] | None = None  # settled calls in a row
        self.last: Posterior | None = None

    def __call__(self, z: Latents, t: float, prev: Latents | None = None) -> Posterior:
        streak = torch.zeros(len(z), dtype=torch.long, device=z.device) if self.streak is None else self.streak
        going = streak < self.rule.patience
        self.passes.append(int(going.sum()))
        if self.last is not None and not going.any():
            return self.last
        new = self.ask(z[going], t, None if prev is None else prev[going])
        self.last = new if self.last is None or going.all() else joined(self.last, going, new)
        self.streak = streak
        if t > 0 and new.logits is not None:
            self.streak = streak.masked_scatter(going, torch.where(self.rule.settled(new.logits), streak[going] + 1, 0))
        return self.last

    def ask(self, z: Latents, t: float, prev: Latents | None) -> Posterior:
        """The belief of rows that go on, with its logits where z tells something."""
        belief = self.denoise(z, t, prev)
        return belief if t <= 0 else belief._replace(logits=self.tokens(z, t, belief))


def joined(old: Posterior, rows: Rows, new: Posterior) -> Posterior:
    """old with these rows replaced; it is not written over, since a trace may hold it."""
    assert old.logits is not None and new.logits is not None, "a row stops after a call that gave logits"
    mean = old.mean.masked_scatter(rows[:, None, None], new.mean)
    return Posterior(mean, old.logits.masked_scatter(rows[:, None, None], new.logits))
