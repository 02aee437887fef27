"""Commit ablation: what a text loses when each choice is fed softly [ours]."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.bootstrap import Size
from textflow.diagnostics.residual import per_sequence
from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Mask, Posterior


@dataclass(frozen=True)
class Ablation:
    """What a text loses when each choice is fed softly: the causal check of CCI [ours].

    Args:
        nll: nats a token with the choices fed.
        soft_nll: nats a token with their soft means fed.
        entropy: of all tokens with the choices fed (H1), nats.
        soft_entropy: the same with soft means.
        changed: share of positions whose token differs.
        chance: 1 - sum pi^2, share that differs between unrelated texts.
        size: n positions and n sequences.
    """

    nll: float
    soft_nll: float
    entropy: float
    soft_entropy: float
    changed: float
    chance: float
    size: Size

    @property
    def delta_nll(self) -> float:
        """soft - hard, nats a token; 0 where the feedback is not used."""
        return self.soft_nll - self.nll

    @property
    def delta_entropy(self) -> float:
        """soft - hard, nats: a text that collapses loses entropy."""
        return self.soft_entropy - self.entropy

    @property
    def relative_change(self) -> float:
        """changed / chance; 0 where all tokens are one."""
        return self.changed / self.chance if self.chance > 0 else 0.0


def ablation(hard: Ids, soft: Ids, nll: Callable[[Ids], Float[Tensor, " B"]], mask: Mask) -> Ablation:
    """Compare texts of the same seeds, with each choice fed or its soft mean.

    Args:
        hard: ids with the escape.
        soft: ids with `Ablated(escape)`.
        nll: ids -> nats of the valid positions of each sequence.
        mask: True where a token was generated.
    """
    n = max(int(mask.sum()), 1)
    top = int(torch.maximum(hard, soft)[mask].max()) + 1 if mask.any() else 1
    law, soft_law = (torch.bincount(ids[mask], minlength=top).double() / n for ids in (hard, soft))
    mean, soft_mean = (float(nll(ids).double().sum()) / n for ids in (hard, soft))
    entropy, soft_entropy = (float(torch.special.entr(p).sum()) for p in (law, soft_law))
    changed = float(per_sequence(hard != soft, mask).sum()) / n
    chance = 1 - float((law**2).sum())
    return Ablation(mean, soft_mean, entropy, soft_entropy, changed, chance, Size(n, len(hard)))


class Ablated(Escape):
    """An escape whose choices are not fed: the soft mean carries z, and `chosen` still says what was chosen [ours].

    Args:
        escape: that chooses.
    """

    def __init__(self, escape: Escape) -> None:
        super().__init__()
        self.escape = escape

    def forward(
        self,
        belief: Posterior,
        t: float,
        tokens: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        return self.escape(belief, t, tokens, embed, noise)._replace(mean=belief.mean)
