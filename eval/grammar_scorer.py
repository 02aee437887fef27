"""Exact law of a grammar of stories (`textflow.data.stories`) as the scorer of a protocol [ours]."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.config.recipe import make_data
from textflow.data import Stories
from textflow.data.grammar import Grammar, split_words
from textflow.data.stories import GRAMMARS
from textflow.diagnostics.stories import KINDS
from textflow.metrics import Interval, ScorerOutput, TextScorer, bootstrap, ratio, wilson
from textflow.metrics.token_weights import find_weighting
from textflow.oracle.stories import entropy, log_prob

from .protocol import Protocol, run_recipe

SHARES = ("valid", "in_grammar", "bigrams", "bound", *KINDS)


class GrammarScorer(TextScorer):
    """Exact likelihood under a grammar, with words as tokens; a text outside the language has none and is counted.

    Args:
        name: sentences, stories or tales, the grammars of the source `Stories`.
        protocol: protocol of the measurement.
    """

    def __init__(self, name: str, protocol: Protocol) -> None:
        self.name, self.grammar, self.revision = name, GRAMMARS[name], None
        self.token_weighting, self.weighting = protocol.token_weighting, find_weighting(protocol.token_weighting)
        self.dtype, self.max_length = "float64", protocol.truncation

    def identity(self) -> dict[str, Any]:
        words = frozenset(chain.from_iterable(chain.from_iterable(self.grammar.accepted)))
        return {"scorer_hash": self.grammar.digest, "scorer_tokenizer": "words", "scorer_vocab": len(words)}

    def score(self, texts: Sequence[str], on_batch: Callable[[int], None] = lambda texts: None) -> ScorerOutput:
        full = [text for text in texts if text.strip()]
        rows, nll = [split_words(text) for text in full], self.nll(full)
        number = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(rows)))}
        ids, valid = [[number[word] for word in row] for row in rows], nll.isfinite()
        tokens, characters = (torch.tensor(list(map(len, parts))).double() * valid for parts in (rows, full))
        nll, empty, invalid = nll.masked_fill(~valid, 0), len(texts) - len(full), int((~valid).sum())
        on_batch(len(texts))
        return ScorerOutput(ids, nll, tokens, empty, nonfinite=invalid, text_nll=nll, characters=characters)

    def nll(self, texts: Sequence[str]) -> Float[Tensor, " N"]:
        """-ln p(text), nats, float64; infinite outside the language."""
        return -torch.tensor([log_prob(self.grammar, text) for text in texts], dtype=torch.float64)

    def text_metrics(self, texts: Sequence[str]) -> dict[str, Interval]:
        """Shares of valid texts and of agreements that hold, as `StoryAgreement` has them; of pairs of neighbouring
        words that the language has; and of the valid texts the excess negative log-likelihood, nats per text: mean of
        -ln p(text) minus the entropy of the language."""
        shares = {f"stories/{name}": share for name, share in measure_shares(self.grammar, texts).items()}
        excess = (self.nll(texts) - entropy(self.grammar)).round(decimals=9) + 0.0  # equal probabilities give 0
        valid = excess.isfinite()
        if not valid.any():
            return shares
        mean = ratio(excess.masked_fill(~valid, 0), valid.double())
        return shares | {"stories/excess_nll": bootstrap(mean, len(texts))}


def measure_shares(grammar: Grammar, texts: Sequence[str]) -> dict[str, Interval]:
    """Shares by the names of SHARES, with Wilson's intervals over texts; one that the texts have no case of is left
    out."""
    counts = [count_shares(grammar, text) for text in texts]
    pairs = {name: torch.tensor([each[name] for each in counts]).view(-1, 2).T for name in SHARES}
    return {name: wilson(*pair) for name, pair in pairs.items() if pair[1].sum()}


def count_shares(grammar: Grammar, text: str) -> dict[str, tuple[int, int]]:
    """Numbers that hold, and of all, in one text, by the names of SHARES."""
    check = grammar.check(text)
    counts = {"valid": (int(check.valid), 1), "in_grammar": (int(check.in_grammar), 1)}
    counts["bigrams"] = grammar.count_bigrams(text)
    counts["bound"] = (sum(check.correct.values()), sum(check.total.values()))
    return counts | {kind: (check.correct.get(kind, 0), check.total.get(kind, 0)) for kind in KINDS}


def find_grammar(run: Path, given: str | None) -> str:
    """Name of the grammar that a run's source draws from, or of the one given for a file of texts.

    Args:
        run: folder of a run, or a file of texts.
        given: sentences, stories or tales; None: that of the run.
    """
    names = " or ".join(GRAMMARS)
    if run.is_file():
        if given not in GRAMMARS:
            has = "no grammar is given" if given is None else f"{given!r} is not a grammar"
            raise ValueError(f"{run} is a file of texts, and {has}; name the one that they follow: --scorer {names}")
        return given
    data = make_data(run_recipe(run)["data"])
    if not isinstance(data.source, Stories):
        source = type(data.source).__name__
        raise ValueError(f"{run} was trained on {source}; protocol stories needs the law of data.source Stories")
    if data.row_format.pack:
        raise ValueError(f"{run} packs several stories into a row; protocol stories needs one a row: data.pack false")
    if given not in (None, data.source.grammar):
        raise ValueError(f"{run} was trained on the grammar {data.source.grammar}, not {given}; leave --scorer out")
    return data.source.grammar
