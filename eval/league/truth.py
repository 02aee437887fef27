"""Numbers of texts by the exact law of the stories."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, TypeAlias

import torch

from textflow.data.stories import GRAMMARS
from textflow.diagnostics.stories import StoryAgreement
from textflow.metrics import Interval, bootstrap, sequence_repetition, unigram_entropy
from textflow.metrics.summary import mean_statistic
from textflow.oracle.stories import entropy, log_prob

from ..record import Record

GrammarName: TypeAlias = Literal["sentences", "stories"]


def score_texts(texts: Sequence[str], ids: Sequence[Sequence[int]], grammar: GrammarName) -> Record:
    """Numbers of texts, with 95% intervals over texts.

    `valid`, `in_grammar`, `bound` and the kinds of agreements are those of `StoryAgreement`. `excess_nll` is the mean
    of -ln p over the valid texts minus the entropy of the language, nats a text: above 0 for texts that are rarer than
    the language's own, below 0 for likelier ones. `distinct` is the share of texts that differ.

    Args:
        texts: decoded texts, at least one.
        ids: tokens of each text, without EOS and padding.
        grammar: name of the grammar.
    """
    agreement, law = StoryAgreement(grammar), GRAMMARS[grammar]
    agreement.update(texts)
    shares, n = agreement.compute(), len(texts)
    own = [-value for text in texts if (value := log_prob(law, text)) > -math.inf]
    means = {
        "excess_nll": [value - entropy(law) for value in own],
        "entropy": [unigram_entropy(row) for row in ids],
        "seq_rep_4": [sequence_repetition(row) for row in ids],
    }
    measured = {name: mean_interval(values) for name, values in means.items()}
    measured["valid"] = share_interval(round(shares["valid"] * n), n)
    values = {**shares, **{name: each.value for name, each in measured.items()}, "distinct": len(set(texts)) / n}
    return {"n": n, **values, "intervals": {name: [each.low, each.high] for name, each in measured.items()}}


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with its bootstrap interval; NaN of nothing."""
    if not values:
        return Interval(math.nan)
    return bootstrap(mean_statistic(torch.tensor(values, dtype=torch.float64)), len(values))


def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Share with Wilson's interval, which has a width at 0 and 1 too (Wilson 1927).

    Args:
        successes: number of successes, 0 to n.
        n: number of trials, at least 1.
        level: confidence, in (0, 1).
    """
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / n
    centre, weight = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max((centre - half) / weight, 0.0), min((centre + half) / weight, 1.0))
