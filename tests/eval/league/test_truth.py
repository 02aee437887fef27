"""Texts scored by the law of the stories."""

import math

import pytest

from textflow.data.grammar import split_words
from textflow.data.stories import SENTENCES
from textflow.eval.league.truth import score_texts


def test_valid_broken_and_foreign_texts_have_their_numbers() -> None:
    valid = ["Ida saw a red bell. She gave the red bell to the baker."]
    valid += ["There was a red bell that Ida saw. The baker took the red bell from her."]
    broken = valid[0].replace("She", "He")
    texts = [*valid, broken, "bell bell bell bell bell", valid[0]]
    numbers = score_texts(texts, [[hash(word) for word in split_words(text)] for text in texts], "sentences", valid[:1])
    assert (numbers["n"], numbers["valid"], numbers["in_grammar"], numbers["distinct"]) == (5, 0.6, 0.8, 0.8)
    assert 0.9 < numbers["bound"] < 1 and numbers["pronouns"] == 0.75
    assert numbers["seq_rep_4"] == pytest.approx((1 / 2) / 5), "one of two 4-grams of one text"
    assert numbers["in_training"] == pytest.approx(2 / 3), "two of three valid texts are the training text"
    low, high = numbers["intervals"]["valid"]
    assert 0 < low < 0.6 < high < 1 and set(numbers["intervals"]) > {"bound", "entropy", "seq_rep_4"}
    assert numbers["excess_nll"] == pytest.approx(0, abs=1), "all texts of an order are as likely"
    assert math.isnan(score_texts(["bell"], [[1]], "sentences", [])["excess_nll"])


@pytest.mark.integration
def test_stories_of_the_language_have_no_excess() -> None:
    texts = [SENTENCES.sample(str(i)) for i in range(2000)]
    numbers = score_texts(texts, [[0]] * len(texts), "sentences", [])
    low, high = numbers["intervals"]["excess_nll"]
    assert numbers["valid"] == 1 and low <= 0 <= high and high - low < 0.1
