"""How far a number can be trusted: bootstrap over samples, jackknife for counts of different things, t over seeds."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Num
from torch import Tensor

Counts: TypeAlias = Float[Tensor, "R n"]  # how often each of n samples is in each of R resamples
Measure: TypeAlias = Callable[[Tensor], Tensor]  # Counts -> its value in each resample [R]


class Interval(NamedTuple):
    """A number and where it lies with the stated confidence; low and high are None where it cannot be said."""

    value: float
    low: float | None = None
    high: float | None = None


def ratio(top: Num[Tensor, " n"], below: Num[Tensor, " n"]) -> Measure:
    """sum top / sum below over a resample; 0 where the sum below is 0.

    Args:
        top: of each sample.
        below: of each sample, >= 0.
    """

    def measure(counts: Counts) -> Float[Tensor, " R"]:
        down = counts @ below.double()
        return torch.where(down > 0, counts @ top.double() / down.clamp_min(1e-300), 0.0)

    return measure


def bootstrap(measure: Measure, n: int, level: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of a measure over samples drawn anew, with replacement (Efron).

    Args:
        measure: of samples taken so and so often.
        n: number of samples, at least 1.
        level: confidence, in (0, 1).
        draws: number of resamples.
        seed: of the resamples.
    """
    value = float(measure(torch.ones(1, n, dtype=torch.float64)))
    if n < 2:
        return Interval(value)
    stream = torch.Generator().manual_seed(seed)
    picked = torch.randint(n, (draws, n), generator=stream)
    counts = torch.zeros(draws, n, dtype=torch.float64).scatter_add_(1, picked, torch.ones(draws, n).double())
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = measure(counts).quantile(edges).tolist()
    return Interval(value, low, high)


def jackknife(value: float, without: Float[Tensor, " n"], level: float = 0.95) -> Interval:
    """value +- t sqrt((n - 1) / n sum (without_i - mean)^2), for a number that a repeated sample would change.

    Args:
        value: over all samples.
        without: the same without each one of them.
        level: confidence, in (0, 1).
    """
    n = len(without)
    if n < 2:
        return Interval(value)
    spread = float(((without - without.mean()) ** 2).sum() * (n - 1) / n) ** 0.5
    half = student(level, n - 1) * spread
    return Interval(value, value - half, value + half)


def over_seeds(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean over independent runs +- t s / sqrt(k).

    Args:
        values: the number of each seed, at least 1.
        level: confidence, in (0, 1).
    """
    if not values:
        raise ValueError("an interval over seeds needs the number of at least one seed and got none")
    found = torch.tensor(values, dtype=torch.float64)
    mean = float(found.mean())
    if len(values) < 2:
        return Interval(mean)
    half = student(level, len(values) - 1) * float(found.std()) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def student(level: float, freedom: int) -> float:
    """t with P(|T| < t) = level, T Student's with whole degrees of freedom.

    Args:
        level: in (0, 1).
        freedom: degrees of freedom, at least 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; needs a confidence above 0 and below 1, such as 0.95")
    low, high = 0.0, math.pi / 2  # of the angle atan(t / sqrt(freedom)), in which P rises without tails
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def within(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) tan(angle)), the finite series (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    first, term, total = freedom % 2, 1.0, 0.0
    for power in range(first, freedom - 1, 2):  # cos^power with its coefficient
        total += term * math.cos(angle) ** power
        term *= (power + 1) / (power + 2)
    inner = math.sin(angle) * total
    return 2 / math.pi * (angle + inner) if first else inner
