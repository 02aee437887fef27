"""Intervals and guards by their closed forms and their coverage."""

import math

import pytest
import torch

from textflow.diagnostics.bootstrap import (
    SampleSize,
    binomial_cdf,
    bootstrap_counts,
    percentile,
    ratio_of_means,
    upper_rate,
)
from textflow.noise import Noise


def size(weight: torch.Tensor, draws: int = 1) -> SampleSize:
    return SampleSize(int(weight.sum()), len(weight), draws)


def test_upper_rate_matches_tables_of_clopper_pearson() -> None:
    assert upper_rate(0, 100_000) == pytest.approx(3.6888e-5, rel=1e-5)
    assert upper_rate(0, 50) == pytest.approx(1 - 0.025 ** (1 / 50), rel=1e-9)
    for events, trials, known in ((1, 10, 0.4450161), (4, 10, 0.7376219), (10, 10, 1.0)):
        assert upper_rate(events, trials) == pytest.approx(known, abs=1e-6)
    for events, trials in ((3, 7), (2, 1_000_000), (40, 1000)):
        assert binomial_cdf(events, trials, upper_rate(events, trials)) == pytest.approx(0.025, rel=1e-6)


def test_a_bootstrap_sample_draws_all_sequences_and_percentiles_allow_infinite_values() -> None:
    counts = bootstrap_counts(50, 200, seed=3)
    assert torch.equal(counts.sum(1), torch.full((200,), 50.0, dtype=torch.float64))
    assert counts.var(0).mean() == pytest.approx(1 - 1 / 50, abs=0.05)
    assert torch.equal(counts, bootstrap_counts(50, 200, seed=3))
    assert not torch.equal(counts, bootstrap_counts(50, 200, seed=4))
    values = torch.tensor([math.inf, 3.0, 1.0, 2.0], dtype=torch.float64)
    assert [percentile(values, share) for share in (0.0, 1 / 3, 1.0)] == [1.0, 2.0, math.inf]


def test_a_ratio_of_means_is_not_a_mean_of_ratios() -> None:
    top, bottom, n = (torch.tensor(v, dtype=torch.float64) for v in ([8.0, 100.0], [4.0, 10.0], [20.0, 80.0]))
    result = ratio_of_means(top, bottom, n, size(n, 2))
    assert result.value == pytest.approx(108 / 7)
    assert (result.numerator, result.denominator) == (pytest.approx(1.08), pytest.approx(0.07))
    assert result.has_value and result.low <= result.value <= result.high


@pytest.mark.integration
def test_the_interval_covers_the_true_ratio_at_its_nominal_rate() -> None:
    noise, num_covered, trials = Noise([1]), 0, 150
    n = torch.full((256,), 4.0, dtype=torch.float64)
    for _ in range(trials):
        u = noise.uniform(2, 256)[0]
        top, bottom = -3 * u[0].log(), -u[1].log()  # exponential, means 3 and 1
        result = ratio_of_means(top, bottom, n, size(n), num_resamples=300)
        num_covered += result.low <= 3 <= result.high
    assert 0.88 <= num_covered / trials <= 0.99  # nominal .95; 4 errors of 150 trials are .07


def test_a_ratio_of_few_events_is_only_bounded_from_below() -> None:
    n = torch.full((64,), 100.0, dtype=torch.float64)
    flips = torch.full((64,), 30.0, dtype=torch.float64)
    for events in (0, 4):
        rare = torch.zeros(64, dtype=torch.float64).index_fill(0, torch.arange(events), 1.0)
        result = ratio_of_means(flips, rare, n, size(n, 8), counts_events=True)
        assert math.isnan(result.value) and result.few_events and not result.has_value and result.high == math.inf
        assert result.low == pytest.approx(0.3 / upper_rate(events, 51_200), rel=1e-9)  # the numerator does not vary
        assert result.low < 51_200
    enough = torch.zeros(64, dtype=torch.float64).index_fill(0, torch.arange(5), 1.0)
    assert ratio_of_means(flips, enough, n, size(n, 8), counts_events=True).value == pytest.approx(0.3 * 51_200 / 5)


def test_a_ratio_with_a_tiny_denominator_is_only_bounded() -> None:
    n = torch.full((64,), 1e5, dtype=torch.float64)
    result = ratio_of_means(n * 0.2, n * 1e-7, n, size(n), min_denominator=1e-6)
    assert result.below_floor and math.isnan(result.value) and result.low == pytest.approx(0.2 / 1e-6)
    assert result.denominator == pytest.approx(1e-7), "the raw rate is recorded"
    assert not ratio_of_means(n * 0.2, n * 1e-5, n, size(n), min_denominator=1e-6).below_floor
    n = torch.full((4,), 10.0, dtype=torch.float64)
    for floor in (0.0, 1e-6):
        result = ratio_of_means(n * 0.5, n * 1e-4, n, size(n), min_denominator=floor)  # 5000 from 40 trials
        assert math.isnan(result.value) and result.low == 40 and result.high == math.inf
    assert ratio_of_means(n * 0.5, n * 0.02, n, size(n)).value == pytest.approx(25)
    none = torch.zeros(3, dtype=torch.float64)
    result = ratio_of_means(none, none, none, size(none), counts_events=True)
    assert result.low == 0 and math.isnan(result.value) and result.numerator == result.denominator == 0
