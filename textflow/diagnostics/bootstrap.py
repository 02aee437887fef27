"""How sure a ratio of means is: the bootstrap over sequences, and what few events still allow to say."""

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
FEWEST = 5  # events below which a ratio is only bounded


class Size(NamedTuple):
    """How much a result rests on.

    Args:
        positions: valid positions, n.
        sequences: rows, which the bootstrap draws from.
        draws: random perturbations of each position, J.
        seed: of the bootstrap.
        dtype: of the latents.
    """

    positions: int
    sequences: int
    draws: int = 1
    seed: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Ratio:
    """numerator / denominator with its 95 % interval; NaN where the data allow a lower bound alone.

    Args:
        value: the ratio of means; NaN where it cannot be given.
        low: 2.5 % point, or the lower bound.
        high: 97.5 % point; infinite where there is only a bound.
        numerator: rate or nats a position, without any floor.
        denominator: rate or nats a position, without any floor.
        floor_hit: whether the denominator lies below the smallest that is trusted.
        few: whether the denominator counts fewer than 5 events.
        size: what it rests on.
    """

    value: float
    low: float
    high: float
    numerator: float
    denominator: float
    floor_hit: bool
    few: bool
    size: Size

    @property
    def measured(self) -> bool:
        """Whether there is a ratio, not a bound alone."""
        return not math.isnan(self.value)


def joined(parts: Sequence[Part]) -> Part:
    """Sums of several batches as those of one.

    Args:
        parts: named tuples of tensors whose first dimension counts rows.
    """
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def resampled(sequences: int, times: int = 1000, seed: int = 0) -> Float[Tensor, "times sequences"]:
    """How often each sequence is drawn in a bootstrap sample; each row sums to `sequences`.

    Args:
        sequences: number of sequences.
        times: bootstrap samples.
        seed: of the draw.
    """
    drawn = (Noise([seed]).uniform(times, sequences)[0] * sequences).long().clamp_max(sequences - 1)
    return torch.zeros(times, sequences, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def percentile(values: Float[Tensor, " times"], share: float) -> float:
    """The value below which a share of the values lies; infinite ones are allowed."""
    return float(values.sort().values[round(share * (len(values) - 1))])


def binomial_cdf(events: int, trials: int, p: float) -> float:
    """P(at most `events` of `trials`), summed in log space."""
    k = torch.arange(events + 1, dtype=torch.float64)
    ways = math.lgamma(trials + 1) - torch.lgamma(k + 1) - torch.lgamma(trials - k + 1)
    return min(float((ways + k * math.log(p) + (trials - k) * math.log1p(-p)).logsumexp(0).exp()), 1.0)


def upper_rate(events: int, trials: int, level: float = 0.975) -> float:
    """Upper end of the Clopper-Pearson interval: the rate at which so few events are 1 - level likely.

    No event: 1 - (1 - level)^(1 / trials), 3.69 / trials for many trials.

    Args:
        events: >= 0.
        trials: >= events.
        level: in (0, 1).
    """
    if events >= trials:
        return 1.0
    low, high = -745.0, 0.0  # of log p: relative precision however small the rate
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if binomial_cdf(events, trials, math.exp(middle)) < 1 - level else (middle, high)
    return math.exp(high)


def ratio(
    numerator: Sums,
    denominator: Sums,
    weight: Sums,
    size: Size,
    floor: float = 0.0,
    events: bool = False,
    times: int = 1000,
) -> Ratio:
    """Ratio of means over positions, with the bootstrap's interval on its logarithm [ours].

    A denominator below the floor, or of fewer than 5 events, gives a lower bound: the numerator's 2.5 % point over the
    floor, or over the denominator's upper Clopper-Pearson end. A ratio above n J is beyond what n J trials can show.

    Args:
        numerator: sums over the valid positions of each sequence.
        denominator: sums over positions and draws.
        weight: valid positions of each sequence.
        size: n, sequences, J and the seed of the bootstrap.
        floor: smallest denominator that is trusted, a position.
        events: whether the denominator counts events.
        times: bootstrap samples.
    """
    top, bottom, n = numerator.cpu().double(), denominator.cpu().double() / size.draws, weight.cpu().double()
    most, trials = float(size.positions * size.draws), max(size.positions * size.draws, 1)
    total = n.sum().clamp_min(1)
    above, below = float(top.sum() / total), float(bottom.sum() / total)
    counts = resampled(len(n), times, size.seed)
    mass = (counts @ n).clamp_min(TINY)
    tops, bottoms = counts @ top / mass, counts @ bottom / mass
    counted = round(float(denominator.double().sum())) if events else trials
    floor_hit, few = below < floor, events and counted < FEWEST
    if floor_hit or few:
        least = max(floor, upper_rate(counted, trials) if few else 0.0)
        low = percentile(tops, 0.025) / least
        return Ratio(math.nan, min(max(low, 0.0), most), math.inf, above, below, floor_hit, few, size)
    ratios = tops.clamp_min(0) / bottoms.clamp_min(max(floor, TINY))
    low, high = percentile(ratios, 0.025), percentile(ratios, 0.975)
    value = above / max(below, TINY)
    if value > most:
        return Ratio(math.nan, min(low, most), math.inf, above, below, floor_hit, few, size)
    return Ratio(value, low, high if high <= most else math.inf, above, below, floor_hit, few, size)
