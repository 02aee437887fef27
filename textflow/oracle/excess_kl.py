"""How far samples are from the truth, in nats a token, when the truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.chain import Chain
from textflow.types import Ids

COLLAPSED = 0.1  # nats; samples with less entropy repeat a token, whatever their likelihood
SIDE = 1.96  # standard errors on each side of a 95 % interval
PARTS = ("nll", "h1", "kl2", "kl3", "illegal")


@dataclass(frozen=True)
class Score:
    """Samples against the truth; nats a token. Lower is better, 0 is the truth [ours].

    Args:
        n: texts.
        length: tokens a text.
        nll: under the true prior.
        h1: entropy of the tokens, all texts and positions together.
        kl2: lower bound of KL(samples | truth) / length from pairs; exact for samples of first order.
        kl3: from triples.
        xkl2: kl2 less its mean over true samples of the same n, which takes out the bias of counting.
        xkl3: likewise.
        illegal: share of transitions that the prior has only by smoothing.
        spread: standard errors by name, from resampled texts; empty where none was asked for.
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
    spread: dict[str, float]

    @property
    def collapsed(self) -> bool:
        """Whether the samples repeat one token: then a low nll means nothing."""
        return self.h1 < COLLAPSED

    @property
    def rank(self) -> float:
        """xkl3, to compare samples by."""
        if self.collapsed:
            raise ValueError(
                f"these samples have a token entropy of {self.h1:.3f} nats: they repeat one token, so their NLL of"
                f" {self.nll:.2f} must not be ranked; sample with more steps, or compare h1 first"
            )
        return self.xkl3

    def interval(self, name: str) -> tuple[float, float]:
        """95 % interval, normal, since the entropies of resampled texts are shifted.

        Close to the truth that of a divergence is up to 2.5 times too wide: counting errors of nll and entropy cancel
        there, which resampled texts, all unlike the truth, do not show.

        Args:
            name: nll, h1, kl2, kl3, xkl2, xkl3 or illegal.
        """
        if name not in self.spread:
            raise ValueError(f"there is no spread of {name!r}; score with a noise and take one of nll, h1, xkl3, ...")
        middle, side = float(getattr(self, name)), SIDE * self.spread[name]
        return middle - side, middle + side


class Yardstick:
    """Scores samples against true ones of the same size.

    Args:
        prior: the true law.
        truths: at least 3 samples of true texts (`World.truths`).
    """

    def __init__(self, prior: Chain, truths: Sequence[Ids]) -> None:
        self.prior, self.shape = prior, truths[0].shape if truths else None
        if len(truths) < 3 or any(truth.shape != self.shape for truth in truths):
            shapes = [tuple(truth.shape) for truth in truths]
            raise ValueError(f"a Yardstick needs at least 3 true samples of one shape, found {shapes}")
        parts = torch.cat([measure(prior, truth, torch.ones(len(truth), 1).double()) for truth in truths], 1)
        self.mean, self.std = parts.mean(1), parts.std(1) / len(truths) ** 0.5

    def score(self, ids: Ids, noise: Noise | None = None, draws: int = 100) -> Score:
        """The score of samples of the shape of the true ones.

        Args:
            ids: samples.
            noise: one stream, for the spread over resampled texts; without it there is no spread.
            draws: number of resamplings.
        """
        if ids.shape != self.shape:
            raise ValueError(
                f"samples of shape {tuple(ids.shape)}, true ones of {tuple(self.shape or ())}: make the"
                " true samples as many and as long, since the bias of counting depends on it"
            )
        own = measure(self.prior, ids, torch.ones(len(ids), 1).double())[:, 0]
        value = dict(zip(PARTS, own.tolist(), strict=True))
        excess = {f"x{name}": value[name] - float(self.mean[PARTS.index(name)]) for name in ("kl2", "kl3")}
        return Score(n=len(ids), length=ids.shape[1], **value, **excess, spread=self._spread(ids, noise, draws))

    def _spread(self, ids: Ids, noise: Noise | None, draws: int) -> dict[str, float]:
        if noise is None:
            return {}
        rows = (noise.uniform(draws, len(ids))[0] * len(ids)).long()
        weights = torch.zeros(draws, len(ids)).double().scatter_add(1, rows, torch.ones(rows.shape).double()).T
        std = measure(self.prior, ids, weights.contiguous()).std(1)
        spread = dict(zip(PARTS, std.tolist(), strict=True))
        both = (std**2 + self.std**2).sqrt()
        return spread | {f"x{name}": float(both[PARTS.index(name)]) for name in ("kl2", "kl3")}


def measure(prior: Chain, ids: Ids, weights: Float[Tensor, "B R"]) -> Float[Tensor, "parts R"]:
    """PARTS of ids, for each of R weightings of the texts.

    With topics, every count is taken within the most likely topic, which adds H(topic) / L to the entropy.

    Args:
        prior: the true law.
        ids: samples, at least 3 tokens long.
        weights: how often each text counts, each column adding up to B.
    """
    length, vocab, topic = ids.shape[1], prior.vocab, prior.topics(ids)
    one = topic[:, None] * vocab + ids
    two = one[:, :-1] * vocab + ids[:, 1:]
    three = two[:, :-1] * vocab + ids[:, 2:]
    nll = prior.nll(ids).mean(1) @ weights / len(ids)
    h2 = entropy(one[:, :1], weights) + (length - 1) * (entropy(two, weights) - entropy(one[:, :-1], weights))
    h3 = entropy(two[:, :1], weights) + (length - 2) * (entropy(three, weights) - entropy(two[:, :-1], weights))
    wrong = (~meant(prior)[topic[:, None], ids[:, :-1], ids[:, 1:]]).double().mean(1) @ weights / len(ids)
    return torch.stack([nll, entropy(ids, weights), nll - h2 / length, nll - h3 / length, wrong])


def entropy(cells: Int[Tensor, "B m"], weights: Float[Tensor, "B R"]) -> Float[Tensor, " R"]:
    """Entropy of cells in nats with the correction (cells seen - 1) / 2 n (Miller and Madow, 1955).

    Args:
        cells: numbers of what was seen, m a text.
        weights: how often each text counts.
    """
    rows = torch.arange(len(cells)).repeat_interleave(cells.shape[1])
    which = torch.unique(cells, return_inverse=True)[1].flatten()
    seen = weights.new_zeros(int(which.max()) + 1, weights.shape[1]).index_add(0, which, weights[rows])  # [cells, R]
    n = seen.sum(0)
    return torch.special.entr(seen / n).sum(0) + ((seen > 0).sum(0) - 1) / (2 * n)


def meant(prior: Chain) -> Tensor:
    """Which tokens may follow which within a topic, [topics, V, V]."""
    table = torch.zeros(int(prior.topic.max()) + 1, prior.vocab, prior.vocab, dtype=torch.bool)
    before, after = prior.legal.nonzero().T
    table[prior.topic[before], prior.emission[before], prior.emission[after]] = True
    return table
