"""Excess KL of samples from a known law of texts, in nats per token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.chain import Chain
from textflow.types import Ids

COLLAPSE_ENTROPY = 0.1  # nats; samples with less entropy repeat a token, whatever their likelihood
Z_95 = 1.96  # standard errors on each side of a 95 % interval
STATISTICS = ("nll", "h1", "kl2", "kl3", "illegal")


@dataclass(frozen=True)
class OracleScore:
    """Scores of samples against the true law, nats per token. Lower is better, 0 is the truth [ours].

    Args:
        n: number of texts.
        length: tokens per text.
        nll: negative log-likelihood under the true prior.
        h1: unigram entropy over all texts and positions.
        kl2: lower bound of KL(samples | truth) / length from pairs; exact for samples of first order.
        kl3: lower bound of KL(samples | truth) / length from triples.
        xkl2: kl2 minus its mean over true samples of the same n, which removes the counting bias.
        xkl3: kl3 minus its mean over true samples of the same n, which removes the counting bias.
        illegal: share of transitions that the prior has only by smoothing.
        std_error: standard errors by name, from resampled texts; empty without resampling.
    """

    n: int
    length: int
    nll: float
    h1: float
    kl2: float
    kl3: float
    xkl2: float
    xkl3: float
    illegal: float
    std_error: dict[str, float]

    @property
    def collapsed(self) -> bool:
        """True if the samples repeat one token, so that a low nll is meaningless."""
        return self.h1 < COLLAPSE_ENTROPY

    @property
    def ranking_key(self) -> float:
        """xkl3, the value by which samples are ranked."""
        if self.collapsed:
            raise ValueError(
                f"these samples have a token entropy of {self.h1:.3f} nats: they repeat one token, so their NLL of"
                f" {self.nll:.2f} must not be ranked; sample with more steps, or compare h1 first"
            )
        return self.xkl3

    def interval(self, name: str) -> tuple[float, float]:
        """95 % interval, normal, since the entropies of resampled texts are shifted.

        Close to the truth that of a divergence is up to 2.5 times too wide: counting errors of nll and entropy cancel
        there, which resampling does not reproduce.

        Args:
            name: nll, h1, kl2, kl3, xkl2, xkl3 or illegal.
        """
        if name not in self.std_error:
            raise ValueError(f"no std_error of {name!r}; score with a noise and take one of nll, h1, xkl3, ...")
        middle, side = float(getattr(self, name)), Z_95 * self.std_error[name]
        return middle - side, middle + side


class ExcessKLScorer:
    """Scorer of samples against true samples of the same size.

    Args:
        prior: law of the texts.
        references: at least 3 samples of true texts (`OracleTask.reference_samples`).
    """

    def __init__(self, prior: Chain, references: Sequence[Ids]) -> None:
        self.prior, self.shape = prior, references[0].shape if references else None
        if len(references) < 3 or any(truth.shape != self.shape for truth in references):
            shapes = [tuple(truth.shape) for truth in references]
            raise ValueError(f"an ExcessKLScorer needs at least 3 true samples of one shape, found {shapes}")
        ones = torch.ones(len(references[0]), 1).double()
        parts = torch.cat([sample_statistics(prior, truth, ones) for truth in references], 1)
        self.mean, self.std = parts.mean(1), parts.std(1) / len(references) ** 0.5

    def score(self, ids: Ids, noise: Noise | None = None, num_resamples: int = 100) -> OracleScore:
        """Score samples of the same shape as the true ones.

        Args:
            ids: samples to score.
            noise: one stream for bootstrap standard errors; default: none are computed.
            num_resamples: number of bootstrap samples.
        """
        if ids.shape != self.shape:
            raise ValueError(
                f"samples of shape {tuple(ids.shape)}, true ones of {tuple(self.shape or ())}: make the"
                " true samples as many and as long, since the bias of counting depends on it"
            )
        own = sample_statistics(self.prior, ids, torch.ones(len(ids), 1).double())[:, 0]
        value = dict(zip(STATISTICS, own.tolist(), strict=True))
        excess = {f"x{name}": value[name] - float(self.mean[STATISTICS.index(name)]) for name in ("kl2", "kl3")}
        spread = self._spread(ids, noise, num_resamples)
        return OracleScore(n=len(ids), length=ids.shape[1], **value, **excess, std_error=spread)

    def _spread(self, ids: Ids, noise: Noise | None, draws: int) -> dict[str, float]:
        if noise is None:
            return {}
        rows = (noise.uniform(draws, len(ids))[0] * len(ids)).long()
        weights = torch.zeros(draws, len(ids)).double().scatter_add(1, rows, torch.ones(rows.shape).double()).T
        std = sample_statistics(self.prior, ids, weights.contiguous()).std(1)
        spread = dict(zip(STATISTICS, std.tolist(), strict=True))
        both = (std**2 + self.std**2).sqrt()
        return spread | {f"x{name}": float(both[STATISTICS.index(name)]) for name in ("kl2", "kl3")}


def sample_statistics(prior: Chain, ids: Ids, weights: Float[Tensor, "B R"]) -> Float[Tensor, "parts R"]:
    """STATISTICS of ids, for each of R weightings of the texts.

    With topics, every count is taken within the most likely topic, which adds H(topic) / L to the entropy.

    Args:
        prior: law of the texts.
        ids: samples, at least 3 tokens long.
        weights: weight of each text, each column summing to B.
    """
    length, vocab, topic = ids.shape[1], prior.vocab_size, prior.most_likely_topic(ids)
    one = topic[:, None] * vocab + ids
    two = one[:, :-1] * vocab + ids[:, 1:]
    three = two[:, :-1] * vocab + ids[:, 2:]
    nll = prior.nll(ids).mean(1) @ weights / len(ids)
    h1, first, pair, before, first_pair, triple, pair_before = (
        miller_madow_entropy(events, weights)
        for events in (ids, one[:, :1], two, one[:, :-1], two[:, :1], three, two[:, :-1])
    )
    h2, h3 = first + (length - 1) * (pair - before), first_pair + (length - 2) * (triple - pair_before)
    wrong = (~legal_transitions(prior)[topic[:, None], ids[:, :-1], ids[:, 1:]]).double().mean(1) @ weights / len(ids)
    return torch.stack([nll, h1, nll - h2 / length, nll - h3 / length, wrong])


def miller_madow_entropy(events: Int[Tensor, "B m"], weights: Float[Tensor, "B R"]) -> Float[Tensor, " R"]:
    """Entropy of events (m per text) in nats, with (occupied cells - 1) / 2 n added (Miller and Madow, 1955)."""
    rows = torch.arange(len(events)).repeat_interleave(events.shape[1])
    which = torch.unique(events, return_inverse=True)[1].flatten()
    counts = weights.new_zeros(int(which.max()) + 1, weights.shape[1]).index_add(0, which, weights[rows])  # [cells, R]
    n = counts.sum(0)
    return torch.special.entr(counts / n).sum(0) + ((counts > 0).sum(0) - 1) / (2 * n)


def legal_transitions(prior: Chain) -> Tensor:
    """Legal token transitions within each topic, [topics, V, V]."""
    table = torch.zeros(int(prior.topic.max()) + 1, prior.vocab_size, prior.vocab_size, dtype=torch.bool)
    before, after = prior.legal.nonzero().T
    table[prior.topic[before], prior.emission[before], prior.emission[after]] = True
    return table
