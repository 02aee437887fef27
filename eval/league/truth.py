"""Numbers of texts by the exact law of the stories, beside those of real text."""

import math
from collections.abc import Collection, Sequence

import torch

from textflow.data.stories import GRAMMARS, GrammarName
from textflow.metrics import Interval, bootstrap, sequence_repetition, unigram_entropy, wilson
from textflow.metrics.summary import mean_statistic
from textflow.oracle.stories import entropy, log_prob, mean_length

from ..grammar_scorer import SHARES, measure_shares
from ..protocol import open_validated, validation_text
from ..record import Record
from ..samples import split_at_eos


def score_texts(
    texts: Sequence[str], ids: Sequence[Sequence[int]], grammar: GrammarName, training: Collection[str]
) -> Record:
    """Numbers of texts, with 95% intervals over texts.

    `valid`, `in_grammar`, `bound` and the kinds of agreements are those of `StoryAgreement`, with Wilson's intervals;
    `bigrams` is the share of pairs of neighbouring words that the language has.
    `excess_nll` is the mean of -ln p over the valid texts minus the entropy of the language, nats per text: above 0 for
    texts that are rarer than the language's own, below 0 for likelier ones. `distinct` is the share of texts that
    differ. `in_training` is the share of the valid texts that the training text has; held-out text shows how many are
    so by chance.

    Args:
        texts: decoded texts, at least one.
        ids: tokens of each text, without EOS and padding.
        grammar: name of the grammar.
        training: training texts.
    """
    law, n = GRAMMARS[grammar], len(texts)
    shares = measure_shares(law, texts)
    log_probs = {text: value for text in texts if (value := log_prob(law, text)) > -math.inf}
    valid = [text for text in texts if text in log_probs]
    means = {
        "excess_nll": [-log_probs[text] - entropy(law) for text in valid],
        "entropy": [unigram_entropy(row) for row in ids],
        "seq_rep_4": [sequence_repetition(row) for row in ids],
    }
    measured = shares | {name: mean_interval(values) for name, values in means.items()}
    if valid:
        measured["in_training"] = wilson(
            torch.tensor([text in training for text in valid]).long(), torch.ones(len(valid))
        )
    names = (*SHARES, *means, "in_training")
    values = {name: measured[name].value if name in measured else math.nan for name in names}
    intervals = {name: [each.low, each.high] for name, each in measured.items()}
    return {"n": n, **values, "distinct": len(set(texts)) / n, "intervals": intervals}


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with its bootstrap interval; NaN of nothing."""
    if not values:
        return Interval(math.nan)
    return bootstrap(mean_statistic(torch.tensor(values, dtype=torch.float64)), len(values))


def training_texts(data: Record) -> set[str]:
    """Training texts of a recipe."""
    module = open_validated(data)
    batch = module.first_rows(len(module.rows))
    rows = zip(batch.ids, batch.mask, strict=True)
    return set(
        module.tokenizer.decode([split_at_eos(ids[mask].tolist(), module.tokenizer.eos)[0] for ids, mask in rows])
    )


def real_text(data: Record, n: int, grammar: GrammarName, training: Collection[str]) -> Record:
    """Numbers of held-out stories."""
    ids, module = validation_text(data, n)
    ids = [split_at_eos(row, module.tokenizer.eos)[0] for row in ids]
    return score_texts(module.tokenizer.decode(ids), ids, grammar, training)


def truth(grammar: str) -> Record:
    """Exact entropy of a text in nats, and its mean number of words."""
    return {"entropy": entropy(GRAMMARS[grammar]), "words": mean_length(GRAMMARS[grammar])}
