"""Commit ablation: loss in likelihood when each committed token is fed back as its soft mean [ours]."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.bootstrap import SampleSize
from textflow.diagnostics.residual import sum_per_sequence
from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.readouts import Readout
from textflow.types import Ids, Latents, Logits, Mask, Posterior


@dataclass(frozen=True)
class AblationResult:
    """Effect of feeding back soft means instead of committed tokens: the causal check of CCI [ours].

    Args:
        nll: nats per token with committed tokens fed back.
        soft_nll: nats per token with their soft means fed back.
        entropy: unigram entropy (H1) with committed tokens fed back, nats.
        soft_entropy: unigram entropy with soft means fed back, nats.
        changed_share: share of positions whose token differs.
        chance_share: 1 - sum pi^2, share of positions that differs between unrelated texts.
        size: numbers of positions and sequences.
    """

    nll: float
    soft_nll: float
    entropy: float
    soft_entropy: float
    changed_share: float
    chance_share: float
    size: SampleSize

    @property
    def delta_nll(self) -> float:
        """soft - hard, nats per token; 0 where the feedback is not used."""
        return self.soft_nll - self.nll

    @property
    def delta_entropy(self) -> float:
        """soft - hard, nats; negative when the text collapses."""
        return self.soft_entropy - self.entropy

    @property
    def relative_change(self) -> float:
        """changed / chance; 0 where all tokens are equal."""
        return self.changed_share / self.chance_share if self.chance_share > 0 else 0.0


def ablation(hard_ids: Ids, soft_ids: Ids, nll: Callable[[Ids], Float[Tensor, " B"]], mask: Mask) -> AblationResult:
    """Compare texts of the same seeds, fed back as committed tokens or as soft means.

    Args:
        hard_ids: token ids sampled with the escape.
        soft_ids: token ids sampled with `SoftFeedback(escape)`.
        nll: ids -> total nats over the valid positions of each sequence.
        mask: True where a token was generated.
    """
    n = max(int(mask.sum()), 1)
    top = int(torch.maximum(hard_ids, soft_ids)[mask].max()) + 1 if mask.any() else 1
    law, soft_law = (torch.bincount(ids[mask], minlength=top).double() / n for ids in (hard_ids, soft_ids))
    mean, soft_mean = (float(nll(ids).double().sum()) / n for ids in (hard_ids, soft_ids))
    entropy, soft_entropy = (float(torch.special.entr(p).sum()) for p in (law, soft_law))
    changed = float(sum_per_sequence(hard_ids != soft_ids, mask).sum()) / n
    chance = 1 - float((law**2).sum())
    return AblationResult(mean, soft_mean, entropy, soft_entropy, changed, chance, SampleSize(n, len(hard_ids)))


@contextmanager
def soft_feedback(readout: Readout) -> Iterator[None]:
    """Let a readout that feeds its tokens back feed their expected embeddings instead; others stay as they are."""
    own = readout.feedback
    readout.feedback = own and "expectation"
    try:
        yield
    finally:
        readout.feedback = own


class SoftFeedback(Escape):
    """Escape that feeds back the soft mean; `committed` still holds the committed tokens [ours].

    Args:
        escape: the escape that commits tokens.
    """

    def __init__(self, escape: Escape) -> None:
        super().__init__()
        self.escape = escape

    def forward(
        self,
        belief: Posterior,
        t: float,
        token_logits: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        return self.escape(belief, t, token_logits, embed, noise)._replace(mean=belief.mean)
