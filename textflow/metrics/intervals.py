"""Confidence intervals: bootstrap over samples, Wilson for shares, jackknife for distinct counts, Student's t over
seeds."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Num
from torch import Tensor

ResampleCounts: TypeAlias = Float[Tensor, "R n"]  # how often each of n samples is in each of R resamples
Statistic: TypeAlias = Callable[[Tensor], Tensor]  # ResampleCounts -> its value in each resample [R]


class Interval(NamedTuple):
    """A value and its confidence interval; low and high are None where it cannot be computed."""

    value: float
    low: float | None = None
    high: float | None = None


def ratio(numerator: Num[Tensor, " n"], denominator: Num[Tensor, " n"]) -> Statistic:
    """sum numerator / sum denominator over a resample; 0 where the denominator is 0.

    Args:
        numerator: numerator of each sample.
        denominator: denominator of each sample, >= 0.
    """
    return partial(resampled_ratio, numerator, denominator)


def resampled_ratio(
    numerator: Num[Tensor, " n"], denominator: Num[Tensor, " n"], counts: ResampleCounts
) -> Float[Tensor, " R"]:
    """As `ratio`, in each of R resamples."""
    total = counts @ denominator.double()
    return torch.where(total > 0, counts @ numerator.double() / total.clamp_min(1e-300), 0.0)


def bootstrap(statistic: Statistic, n: int, level: float = 0.95, num_resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of a statistic over samples drawn with replacement (Efron).

    Args:
        statistic: maps the counts of each sample in each resample to values.
        n: number of samples, at least 1.
        level: confidence, in (0, 1).
        num_resamples: number of resamples.
        seed: random seed of the resamples.
    """
    value = float(statistic(torch.ones(1, n, dtype=torch.float64)))
    if n < 2:
        return Interval(value)
    stream = torch.Generator().manual_seed(seed)
    picked = torch.randint(n, (num_resamples, n), generator=stream)
    counts = torch.zeros(num_resamples, n, dtype=torch.float64)
    counts.scatter_add_(1, picked, torch.ones_like(counts))
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = statistic(counts).quantile(edges).tolist()
    return Interval(value, low, high)


def wilson(successes: Num[Tensor, " n"], trials: Num[Tensor, " n"], level: float = 0.95) -> Interval:
    """Share sum successes / sum trials +- the interval of Wilson (1927), which is never empty, not even at 0 or 1.

    The trials of a sample may depend on each other: the interval is that of as many independent trials as have the
    variance found between samples (Dean & Pagano, 2015), or of one trial a sample where the samples do not vary.

    Args:
        successes: number of successes of each sample, at most its trials.
        trials: number of trials of each sample, at least 0, with a sum of at least 1.
        level: confidence, in (0, 1).
    """
    total = float(trials.sum())
    share = float(successes.sum()) / total
    variance = float(((successes - share * trials.double()) ** 2).sum()) / total**2
    size = share * (1 - share) / variance if variance else float((trials > 0).sum())
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2 / min(size, total)
    middle, half = share + z2 / 2, math.sqrt(z2 * share * (1 - share) + z2**2 / 4)
    return Interval(share, max((middle - half) / (1 + z2), 0.0), min((middle + half) / (1 + z2), 1.0))


def jackknife(value: float, leave_one_out: Float[Tensor, " n"], level: float = 0.95) -> Interval:
    """value +- t sqrt((n - 1) / n sum (leave_one_out_i - mean)^2), for a statistic that repeated samples would bias.

    Args:
        value: value over all samples.
        leave_one_out: value without sample i, for each i.
        level: confidence, in (0, 1).
    """
    n = len(leave_one_out)
    if n < 2:
        return Interval(value)
    spread = float(((leave_one_out - leave_one_out.mean()) ** 2).sum() * (n - 1) / n) ** 0.5
    half = student_t_quantile(level, n - 1) * spread
    return Interval(value, value - half, value + half)


def mean_over_seeds(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean over the values of k >= 1 independent runs +- t s / sqrt(k), at a confidence level in (0, 1)."""
    if not values:
        raise ValueError("an interval over seeds needs the value of at least one seed and got none")
    data = torch.tensor(values, dtype=torch.float64)
    mean = float(data.mean())
    if len(values) < 2:
        return Interval(mean)
    half = student_t_quantile(level, len(values) - 1) * float(data.std()) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def student_t_quantile(level: float, degrees_of_freedom: int) -> float:
    """t with P(|T| < t) = level in (0, 1), T Student's with an integer number of degrees of freedom, at least 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; needs a confidence above 0 and below 1, such as 0.95")
    low, high = 0.0, math.pi / 2  # bounds of the angle atan(t / sqrt(degrees_of_freedom))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_probability(middle, degrees_of_freedom) < level else (low, middle)
    return math.sqrt(degrees_of_freedom) * math.tan(low)


def student_t_probability(angle: float, degrees_of_freedom: int) -> float:
    """P(|T| < sqrt(degrees_of_freedom) tan(angle)), the finite series (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    first, term, total = degrees_of_freedom % 2, 1.0, 0.0
    for power in range(first, degrees_of_freedom - 1, 2):  # cos^power with its coefficient
        total += term * math.cos(angle) ** power
        term *= (power + 1) / (power + 2)
    inner = math.sin(angle) * total
    return 2 / math.pi * (angle + inner) if first else inner
