import math

from textflow.metrics import Entropy, mean_entropy, unigram_entropy


def test_entropy_of_known_laws():
    assert math.isclose(unigram_entropy([4, 9, 4, 9, 2, 7, 2, 7]), math.log(4))
    assert math.isclose(unigram_entropy([0, 0, 0, 1]), -0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert unigram_entropy([3, 3, 3]) == unigram_entropy([3]) == unigram_entropy([]) == mean_entropy([]) == 0


def test_the_mean_is_over_samples_whatever_their_length_or_batch():
    assert math.isclose(mean_entropy([[0, 1], [5] * 100]), math.log(2) / 2)
    metric = Entropy()
    metric.update([[0, 1]])
    metric.update([[5, 5], [1, 2, 3]])
    assert math.isclose(metric.compute(), mean_entropy([[0, 1], [5, 5], [1, 2, 3]]))
