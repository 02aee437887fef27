"""Exact likelihood and entropy of the stories' grammars (`textflow.data.stories`) [ours]."""

import math

from textflow.data.grammar import Grammar


def log_prob(grammar: Grammar, text: str) -> float:
    """ln p(text), nats; -inf outside the language. No two orders fit one text (`require_unambiguous`)."""
    fitting = grammar.fitting(text) if grammar.check(text).valid else []
    return -math.log(len(grammar.orders)) - grammar.order_entropy(fitting[0]) if fitting else -math.inf


def entropy(grammar: Grammar) -> float:
    """-E ln p(text), nats per text."""
    require_unambiguous(grammar)
    return math.log(len(grammar.orders)) + sum(map(grammar.order_entropy, grammar.orders)) / len(grammar.orders)


def mean_length(grammar: Grammar) -> float:
    """Mean number of words and punctuation marks of a text."""
    return sum(map(len, grammar.orders)) / len(grammar.orders)


def require_unambiguous(grammar: Grammar) -> None:
    """Raise a ValueError if a text may have two derivations: two orders whose places all share a word."""
    accepted = grammar.accepted
    for i, first in enumerate(accepted):
        for j, second in enumerate(accepted[:i]):
            if len(first) == len(second) and all(a & b for a, b in zip(first, second, strict=True)):
                raise ValueError(f"orders {j} and {i} of the grammar fit one text; change a literal word of one")
