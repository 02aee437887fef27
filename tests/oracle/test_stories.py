"""Exact law of the stories: probabilities of a tiny grammar add up, and samples have the stated entropy."""

import math

import pytest

from tests.helpers.story_grammars import TINY, UNEVEN
from textflow.data.grammar import Grammar, split_words
from textflow.data.stories import GRAMMARS
from textflow.oracle.stories import entropy, log_prob, mean_length, require_unambiguous

pytestmark = pytest.mark.integration


def test_enumeration_has_the_likelihoods_and_the_entropy() -> None:
    texts = list(TINY.enumerate())
    assert len({text for text, _ in texts}) == len(texts)
    assert math.fsum(p for _, p in texts) == pytest.approx(1, abs=1e-12)
    assert max(abs(math.exp(log_prob(TINY, text)) - p) for text, p in texts) < 1e-12
    assert entropy(TINY) == pytest.approx(-math.fsum(p * math.log(p) for _, p in texts), abs=1e-12)
    assert mean_length(TINY) == pytest.approx(math.fsum(p * len(split_words(text)) for text, p in texts))
    assert log_prob(TINY, "Anna saw an old hat.") == -math.inf


@pytest.mark.parametrize(
    ("name", "n"),
    [("uneven", 20_000), ("sentences", 1_000), ("stories", 1_000), ("tales", 1_000)]
    + [pytest.param(name, 1_000_000, marks=pytest.mark.slow) for name in ("uneven", *GRAMMARS)],
)
def test_the_mean_negative_log_likelihood_of_samples_is_the_entropy(name: str, n: int) -> None:
    grammar = (GRAMMARS | {"uneven": UNEVEN})[name]
    nats = [-log_prob(grammar, grammar.sample(f"1/{i}")) for i in range(n)]
    mean = sum(nats) / len(nats)
    error = math.sqrt(sum((one - mean) ** 2 for one in nats) / len(nats)) / math.sqrt(len(nats))
    assert abs(mean - entropy(grammar)) < 4 * error + 1e-9


def test_a_grammar_with_two_derivations_of_a_text_is_refused() -> None:
    twice = Grammar(TINY.classes, (("{hero} saw {friend}.", "{friend} saw {hero}."),))
    with pytest.raises(ValueError, match="orders 0 and 1 of the grammar fit one text"):
        require_unambiguous(twice)
