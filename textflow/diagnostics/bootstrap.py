"""Confidence intervals of a ratio of means: bootstrap over sequences, and bounds from few events."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise

Sums = Float[Tensor, " B"]
Part = TypeVar("Part", bound=tuple[Tensor, ...])
TINY = torch.finfo(torch.float64).tiny
MIN_EVENTS = 5  # events below which a ratio is only bounded


class SampleSize(NamedTuple):
    """Sample size of a result.

    Args:
        num_positions: number of valid positions, n.
        num_sequences: number of rows, the bootstrap's units.
        num_draws: number of random perturbations per position, J.
        seed: random seed of the bootstrap.
        dtype: dtype of the latents.
    """

    num_positions: int
    num_sequences: int
    num_draws: int = 1
    seed: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Ratio:
    """numerator / denominator with its 95 % interval; NaN where the data give only a lower bound.

    Args:
        value: the ratio of means; NaN where only a bound is available.
        low: 2.5 % point, or the lower bound.
        high: 97.5 % point; infinite where there is only a bound.
        numerator: rate or nats per position, before clamping.
        denominator: rate or nats per position, before clamping.
        below_floor: True if the denominator is below the smallest trusted value.
        few_events: True if the denominator counts fewer than 5 events.
        size: sample size.
    """

    value: float
    low: float
    high: float
    numerator: float
    denominator: float
    below_floor: bool
    few_events: bool
    size: SampleSize

    @property
    def has_value(self) -> bool:
        """True if there is a ratio, not only a bound."""
        return not math.isnan(self.value)


def at_floor(bound: str) -> str:
    """Text in place of a ratio whose denominator is 0 or below what the trials resolve.

    Args:
        bound: lower bound of the ratio, as text.
    """
    return f"at the floor (>= {bound})"


def concat_batches(parts: Sequence[Part]) -> Part:
    """Concatenate the named tuples of several batches over rows, their tensors' first dimension."""
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def bootstrap_counts(num_sequences: int, num_resamples: int = 1000, seed: int = 0) -> Float[Tensor, "times sequences"]:
    """Number of times each sequence occurs in each bootstrap sample; each row sums to `num_sequences`."""
    index = (Noise([seed]).uniform(num_resamples, num_sequences)[0] * num_sequences).long().clamp_max(num_sequences - 1)
    counts = torch.zeros(num_resamples, num_sequences, dtype=torch.float64)
    return counts.scatter_add_(1, index, torch.ones_like(index).double())


def percentile(values: Float[Tensor, " times"], fraction: float) -> float:
    """The value below which a share of the values lies; infinite ones are allowed."""
    return float(values.sort().values[round(fraction * (len(values) - 1))])


def binomial_cdf(events: int, trials: int, p: float) -> float:
    """P(at most `events` of `trials`), summed in log space."""
    k = torch.arange(events + 1, dtype=torch.float64)
    log_binom = math.lgamma(trials + 1) - torch.lgamma(k + 1) - torch.lgamma(trials - k + 1)
    return min(float((log_binom + k * math.log(p) + (trials - k) * math.log1p(-p)).logsumexp(0).exp()), 1.0)


def upper_rate(events: int, trials: int, level: float = 0.975) -> float:
    """Upper end of the Clopper-Pearson interval: the rate at which so few events are 1 - level likely.

    No event: 1 - (1 - level)^(1 / trials), 3.69 / trials for many trials.

    Args:
        events: number of events, >= 0.
        trials: number of trials, >= events.
        level: confidence level, in (0, 1).
    """
    if events >= trials:
        return 1.0
    low, high = -745.0, 0.0  # bisection of log p keeps relative precision for small rates
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if binomial_cdf(events, trials, math.exp(middle)) < 1 - level else (middle, high)
    return math.exp(high)


def ratio_of_means(
    numerator: Sums,
    denominator: Sums,
    num_positions: Sums,
    size: SampleSize,
    min_denominator: float = 0.0,
    counts_events: bool = False,
    num_resamples: int = 1000,
) -> Ratio:
    """Ratio of means over positions, with the bootstrap's interval on its logarithm [ours].

    A denominator below the floor, or of fewer than 5 events, gives a lower bound: the numerator's 2.5 % point over the
    floor, or over the denominator's upper Clopper-Pearson end. A ratio above n J cannot be resolved by n J trials.

    Args:
        numerator: sums over the valid positions of each sequence.
        denominator: sums over positions and draws.
        num_positions: valid positions of each sequence.
        size: n, sequences, J and the seed of the bootstrap.
        min_denominator: smallest trusted denominator, per position.
        counts_events: True if the denominator counts events.
        num_resamples: number of bootstrap samples.
    """
    top, bottom, n = numerator.cpu().double(), denominator.cpu().double() / size.num_draws, num_positions.cpu().double()
    most, trials = float(size.num_positions * size.num_draws), max(size.num_positions * size.num_draws, 1)
    total = n.sum().clamp_min(1)
    above, below = float(top.sum() / total), float(bottom.sum() / total)
    counts = bootstrap_counts(len(n), num_resamples, size.seed)
    mass = (counts @ n).clamp_min(TINY)
    tops, bottoms = counts @ top / mass, counts @ bottom / mass
    counted = round(float(denominator.double().sum())) if counts_events else trials
    floor_hit, few = below < min_denominator, counts_events and counted < MIN_EVENTS
    rates = (above, below, floor_hit, few, size)
    if floor_hit or few:
        least = max(min_denominator, upper_rate(counted, trials) if few else 0.0)
        low = percentile(tops, 0.025) / least
        return Ratio(math.nan, min(max(low, 0.0), most), math.inf, *rates)
    ratios = tops.clamp_min(0) / bottoms.clamp_min(max(min_denominator, TINY))
    low, high = percentile(ratios, 0.025), percentile(ratios, 0.975)
    value = above / max(below, TINY)
    if value > most:
        return Ratio(math.nan, min(low, most), math.inf, *rates)
    return Ratio(value, low, high if high <= most else math.inf, *rates)
