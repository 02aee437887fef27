import math

import pytest
import torch
from torch.testing import assert_close

from textflow.metrics import (
    Interval,
    ScorerOutput,
    bootstrap,
    distinct_n,
    jackknife,
    mean_entropy,
    mean_over_seeds,
    ratio,
    summarize,
    wilson,
)
from textflow.metrics.intervals import student_t_quantile

SAMPLES = [[1, 2, 1, 2, 1, 2, 3], [3, 4, 5, 6, 7], [9], [3, 4, 5, 6, 8, 8, 8]]
SCORED = ScorerOutput(
    SAMPLES, torch.tensor([9.0, 8.0, 0.0, 14.0]).double(), torch.tensor([6.0, 4.0, 0.0, 7.0]).double(), 1
)


def test_intervals_over_seeds_and_of_the_jackknife_are_t_intervals() -> None:
    for freedom, t in ((1, 12.706205), (2, 4.302653), (3, 3.182446), (10, 2.228139), (29, 2.04523), (5000, 1.960439)):
        assert math.isclose(student_t_quantile(0.95, freedom), t, rel_tol=1e-6)
    interval = mean_over_seeds([10.0, 12.0, 14.0])
    assert interval.value == 12 and math.isclose(interval.high - 12, 4.302653 * 2 / math.sqrt(3), rel_tol=1e-6)  # type: ignore
    assert mean_over_seeds([3.0]) == Interval(3.0, None, None)
    with pytest.raises(ValueError, match="at least one seed"):
        mean_over_seeds([])
    x = torch.tensor([1.0, 4.0, 4.0, 7.0]).double()
    interval = jackknife(float(x.mean()), (x.sum() - x) / 3)
    assert math.isclose(interval.high - 4, 3.182446 * x.std() / 2, rel_tol=1e-6)  # type: ignore[operator]


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    x = torch.randn(400, generator=torch.Generator().manual_seed(1)).double()
    interval = bootstrap(ratio(x, torch.ones_like(x)), 400, num_resamples=4000)
    assert math.isclose(interval.value, x.mean(), rel_tol=1e-12)
    assert math.isclose(interval.high - interval.low, 2 * 1.96 * x.std() / 20, rel_tol=0.05)  # type: ignore[operator]
    assert interval.low < interval.value < interval.high  # type: ignore[operator]


@pytest.mark.integration
def test_the_bootstrap_covers_the_truth_as_often_as_its_level() -> None:
    draw, covered = torch.Generator().manual_seed(3), 0
    for trial in range(200):
        x = torch.randn(60, generator=draw).double()
        _, low, high = bootstrap(ratio(x, torch.ones_like(x)), 60, level=0.8, num_resamples=300, seed=trial)
        covered += low <= 0 <= high  # type: ignore[operator]
    assert abs(covered / 200 - 0.8) < 0.08  # 2.8 standard errors


def test_one_sample_has_no_interval_and_one_without_tokens_no_nan() -> None:
    assert bootstrap(ratio(torch.ones(1), torch.ones(1)), 1) == Interval(1.0, None, None)
    assert jackknife(2.0, torch.ones(1).double()) == Interval(2.0, None, None)
    interval = bootstrap(ratio(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])), 2)
    assert interval.value == 0.5 and interval.low == 0 and interval.high == 0.5


def test_wilson_is_the_known_interval_and_counts_equal_trials_of_a_sample_once() -> None:
    ones = torch.ones(10).double()
    value, low, high = wilson(torch.tensor([1] * 8 + [0, 0]), ones)
    assert value == 0.8 and (low, high) == (pytest.approx(0.490162, abs=1e-6), pytest.approx(0.943318, abs=1e-6))
    assert wilson(0 * ones, ones) == Interval(0.0, 0.0, pytest.approx(0.277533, abs=1e-6))
    repeated = wilson(torch.tensor([5] * 8 + [0, 0]), 5 * ones)
    assert repeated == pytest.approx((value, low, high))
    independent = wilson(torch.tensor([4] * 10), 5 * ones)
    assert independent.low is not None and low is not None and independent.low > low - 1e-12
    assert wilson(5 * ones, 5 * ones).low == pytest.approx(wilson(ones, ones).low or 0)


def test_the_wilson_interval_covers_the_truth_where_the_trials_of_a_sample_depend_on_each_other() -> None:
    draw, covered = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        rate = 0.9 + 0.1 * (torch.rand(60, 1, generator=draw) - 0.5).sign()  # 0.8 or 1 of a sample's trials hold
        held = (torch.rand(60, 8, generator=draw) < rate).sum(1)
        _, low, high = wilson(held, torch.full((60,), 8))
        covered += low is not None and high is not None and low <= 0.9 <= high
    assert 0.92 < covered / 400 < 0.98


def test_every_number_lies_in_its_interval_and_is_the_plain_one() -> None:
    intervals = summarize(SCORED)
    assert set(intervals) == {
        *("perplexity", "nll", "nll_minus_entropy", "entropy", "entropy_scorer", "seq_rep_4", "human_repetition_share"),
        *("distinct_1", "distinct_2", "distinct_3", "diversity"),
    }
    for name, (value, low, high) in intervals.items():
        assert low is not None and high is not None and low <= value <= high, name
    assert math.isclose(intervals["perplexity"].value, SCORED.perplexity or 0) and intervals["nll"].value == 31 / 17
    assert intervals["distinct_2"].value == distinct_n(SAMPLES, 2)
    assert intervals["perplexity"].low < intervals["perplexity"].high  # type: ignore[operator]
    entropy = mean_entropy([SAMPLES[0], SAMPLES[1], SAMPLES[3]])  # the third has no scored token
    assert math.isclose(summarize(SCORED)["nll_minus_entropy"].value, 31 / 17 - entropy)
    assert summarize(ScorerOutput([], torch.zeros(0).double(), torch.zeros(0).double(), 3)) == {}
    interval = summarize(SCORED._replace(average_over="sample"))["perplexity"]
    assert math.isclose(interval.value, SCORED._replace(average_over="sample").perplexity or 0)
    assert interval.value != summarize(SCORED)["perplexity"].value


def test_without_one_sample_its_own_ngrams_are_gone() -> None:
    interval = summarize(SCORED)["distinct_2"]
    without = torch.tensor([distinct_n([s for s in SAMPLES if s is not out], 2) for out in SAMPLES]).double()
    assert_close(torch.tensor(interval), torch.tensor(jackknife(distinct_n(SAMPLES, 2), without)), rtol=1e-6, atol=1e-6)


def test_entropy_can_be_of_the_generators_tokens_and_ngrams_are_of_the_scorers() -> None:
    own, plain = [[1, 1], [2, 2], [3, 3]], summarize(SCORED)
    other = summarize(SCORED, own, "generator")
    assert other["entropy"] == other["entropy_generator"] == Interval(0.0, 0.0, 0.0)
    assert all(other[name] == plain[name] for name in plain if name != "entropy")
    assert "entropy" not in summarize(SCORED, None, "generator")
    assert summarize(SCORED, own)["entropy"] == plain["entropy"] == other["entropy_scorer"]
