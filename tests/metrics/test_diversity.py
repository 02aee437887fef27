import math

from textflow.metrics import (
    distinct_n,
    mean_repetition,
    ngram_diversity,
    sequence_repetition,
    share_below_human_repetition,
)


def test_a_text_without_repeats_has_none():
    assert sequence_repetition(list(range(20))) == 0


def test_repeated_four_grams_are_counted():
    assert math.isclose(sequence_repetition([1, 2, 3, 4, 1, 2, 3, 4]), 1 / 5)  # 1234 2341 3412 4123 1234
    assert math.isclose(sequence_repetition([7] * 10), 6 / 7)


def test_a_text_shorter_than_the_n_gram_has_no_repeats():
    assert sequence_repetition([1, 1, 1]) == sequence_repetition([]) == 0


def test_clean_is_at_most_the_human_bar():
    at_bar = list(range(103)) + [0, 1, 2, 3]  # 104 four-grams, 1 repeated: .96 %
    over = list(range(50)) + [0, 1, 2, 3]  # 51 four-grams, 1 repeated: 1.96 %
    assert share_below_human_repetition([at_bar, over]) == 0.5
    assert math.isclose(mean_repetition([at_bar, over]), (1 / 104 + 1 / 51) / 2)


def test_distinct_is_over_all_samples_together():
    assert distinct_n([[1, 2, 3], [1, 2, 3]], 1) == distinct_n([[1, 2, 3], [1, 2, 3]], 2) == 0.5
    assert distinct_n([], 2) == distinct_n([[1]], 2) == 0


def test_diversity_is_the_product_over_pooled_repetitions():
    samples = [[1, 2, 1, 2, 1], [3, 4, 5, 6, 7]]
    assert math.isclose(ngram_diversity(samples), (6 / 8) * (5 / 6) * (4 / 4))
    assert ngram_diversity([[1], []]) == 1


def test_repeats_between_samples_do_not_lower_diversity():
    assert ngram_diversity([[1, 2, 3, 4, 5]] * 3) == 1
