"""Numbers of texts by the exact law of the stories."""

import math
from collections.abc import Sequence

import torch

from textflow.data.stories import GRAMMARS, GrammarName
from textflow.metrics import Interval, bootstrap, sequence_repetition, unigram_entropy
from textflow.metrics.summary import mean_statistic
from textflow.oracle.stories import entropy, log_prob

from ..grammar_scorer import SHARES, measure_shares
from ..record import Record


def score_texts(texts: Sequence[str], ids: Sequence[Sequence[int]], grammar: GrammarName) -> Record:
    """Numbers of texts, with 95% intervals over texts.

    `valid`, `in_grammar`, `bound` and the kinds of agreements are those of `StoryAgreement`, with Wilson's intervals;
    `bigrams` is the share of pairs of neighbouring words that the language has.
    `excess_nll` is the mean of -ln p over the valid texts minus the entropy of the language, nats per text: above 0 for
    texts that are rarer than the language's own, below 0 for likelier ones. `distinct` is the share of texts that
    differ.

    Args:
        texts: decoded texts, at least one.
        ids: tokens of each text, without EOS and padding.
        grammar: name of the grammar.
    """
    law, n = GRAMMARS[grammar], len(texts)
    shares = measure_shares(law, texts)
    own = [-value for text in texts if (value := log_prob(law, text)) > -math.inf]
    means = {
        "excess_nll": [value - entropy(law) for value in own],
        "entropy": [unigram_entropy(row) for row in ids],
        "seq_rep_4": [sequence_repetition(row) for row in ids],
    }
    measured = shares | {name: mean_interval(values) for name, values in means.items()}
    values = {name: measured[name].value if name in measured else math.nan for name in (*SHARES, *means)}
    intervals = {name: [each.low, each.high] for name, each in measured.items()}
    return {"n": n, **values, "distinct": len(set(texts)) / n, "intervals": intervals}


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with its bootstrap interval; NaN of nothing."""
    if not values:
        return Interval(math.nan)
    return bootstrap(mean_statistic(torch.tensor(values, dtype=torch.float64)), len(values))
