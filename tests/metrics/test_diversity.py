import math

import torch

from textflow.metrics import ScorerOutput, distinct_n, sequence_repetition, summarize
from textflow.metrics.summary import diversity_statistic


def diversity(samples: list[list[int]]) -> float:
    return float(diversity_statistic(samples)(torch.ones(1, len(samples), dtype=torch.float64)))


def test_repeated_four_grams_are_counted_and_human_repetition_is_a_share_of_samples():
    assert math.isclose(sequence_repetition([1, 2, 3, 4, 1, 2, 3, 4]), 1 / 5)  # 1234 2341 3412 4123 1234
    assert math.isclose(sequence_repetition([7] * 10), 6 / 7)
    assert sequence_repetition(list(range(20))) == sequence_repetition([1, 1, 1]) == sequence_repetition([]) == 0
    below = list(range(103)) + [0, 1, 2, 3]  # 104 four-grams, 1 repeated: .96 %
    above = list(range(50)) + [0, 1, 2, 3]  # 51 four-grams, 1 repeated: 1.96 %
    zeros = torch.zeros(2, dtype=torch.float64)
    intervals = summarize(ScorerOutput([below, above], zeros, zeros, 0))
    assert intervals["human_repetition_share"].value == 0.5
    assert math.isclose(intervals["seq_rep_4"].value, (1 / 104 + 1 / 51) / 2)


def test_distinct_is_over_all_samples_and_diversity_over_pooled_repetitions():
    assert distinct_n([[1, 2, 3], [1, 2, 3]], 1) == distinct_n([[1, 2, 3], [1, 2, 3]], 2) == 0.5
    assert distinct_n([], 2) == distinct_n([[1]], 2) == 0
    assert math.isclose(diversity([[1, 2, 1, 2, 1], [3, 4, 5, 6, 7]]), (6 / 8) * (5 / 6) * (4 / 4))
    assert diversity([[1], []]) == diversity([[1, 2, 3, 4, 5]] * 3) == 1  # repeats between samples do not count
