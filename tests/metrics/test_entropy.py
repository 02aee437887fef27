import math

from textflow.metrics import Entropy, mean_entropy, unigram_entropy


def test_entropy_of_equal_frequencies_is_the_log_of_their_number():
    assert math.isclose(unigram_entropy([4, 9, 4, 9, 2, 7, 2, 7]), math.log(4))


def test_entropy_of_a_known_law():
    assert math.isclose(unigram_entropy([0, 0, 0, 1]), -0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_entropy_of_a_constant_or_empty_sample_is_zero():
    assert unigram_entropy([3, 3, 3]) == unigram_entropy([3]) == unigram_entropy([]) == mean_entropy([]) == 0


def test_the_mean_is_over_samples_whatever_their_length():
    assert math.isclose(mean_entropy([[0, 1], [5] * 100]), math.log(2) / 2)


def test_the_metric_adds_batches_up_to_the_mean():
    metric = Entropy()
    metric.update([[0, 1]])
    metric.update([[5, 5], [1, 2, 3]])
    assert math.isclose(metric.compute(), mean_entropy([[0, 1], [5, 5], [1, 2, 3]]))
