"""Roll-in and cumulative flips: token errors on real text after one step, and along the sampler's trajectory.

Compare flips with the Bayes error: most flips at the end of a trajectory are due to the noise at its first time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from textflow.diagnostics.bootstrap import SampleSize, Sums
from textflow.diagnostics.perturbation import DecodeFn
from textflow.diagnostics.residual import sum_per_sequence, terminal_posterior, token_errors
from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, sample
from textflow.types import Denoise, Ids, Latents, Logits, Mask, Posterior

TokenLogitsFn = Callable[[Latents, float, Posterior], Logits]


class FlipCounts(NamedTuple):
    """Sums over the valid positions of each sequence; batches are joined by `concat_batches`.

    Args:
        num_positions: number of valid positions.
        flips: positions where the prediction decodes differently from the text.
        token_errors: positions where argmax gamma differs from the clean decode; NaN without gamma.
        bayes_error: 1 - max gamma; NaN without gamma.
    """

    num_positions: Sums
    flips: Sums
    token_errors: Sums
    bayes_error: Sums


@dataclass(frozen=True)
class RollInRates:
    """Flip rate of one belief about real text, and the Bayes error.

    Args:
        t: time of the belief.
        flip_rate: flips of the prediction per valid position.
        token_error: error rate of argmax gamma; NaN without gamma.
        bayes_error: 1 - mean max gamma, the Bayes error of a calibrated gamma; NaN without gamma.
        z_score: z-score of token_error - bayes_error over sequences; N(0, 1) if gamma is calibrated.
        size: numbers of positions and sequences.
    """

    t: float
    flip_rate: float
    token_error: float
    bayes_error: float
    z_score: float
    size: SampleSize

    @property
    def excess_flip_rate(self) -> float:
        """flip_rate - token_error: extra errors of decoding the mean instead of the token posterior [ours]."""
        return self.flip_rate - self.token_error


class RollInCurves(NamedTuple):
    """Roll-in and cumulative rates at one number of steps K.

    Args:
        rollin: rates of one belief from noised real text, at each interior time.
        cumulative: rates along the sampler's trajectory from the first interior time.
        final: rates at the end of the trajectory.
    """

    rollin: list[RollInRates]
    cumulative: list[RollInRates]
    final: RollInRates


@torch.no_grad()
def rollin_flips(
    denoise: Denoise,
    decode: DecodeFn,
    path: ProbPath,
    x: Latents,
    mask: Mask,
    times: list[float],
    noise: Noise,
    token_logits: TokenLogitsFn | None = None,
) -> list[FlipCounts]:
    """Flips of one belief from noised real text, at each time within the grid; the last is the terminal time.

    Args:
        denoise: (z, t, self_cond) -> belief, without an escape.
        decode: latents -> logits.
        path: probability path.
        x: latents of real text.
        mask: True at text.
        times: increasing sampling grid.
        noise: one stream per row.
        token_logits: (z, t, belief) -> logits of p(token | z_t); default: the belief's logits, if any.
    """
    clean_ids = decode(x).argmax(-1)
    flips = []
    for t in interior_times(times):
        terminal = terminal_posterior(denoise, path, x, mask, t, noise)
        flips.append(count_flips(decode, clean_ids, mask, terminal.z, t, terminal.belief, token_logits))
    return flips


@torch.no_grad()
def cumulative_flips(
    denoise: Denoise,
    sampler: Sampler,
    decode: DecodeFn,
    path: ProbPath,
    x: Latents,
    mask: Mask,
    times: list[float],
    noise: Noise,
    token_logits: TokenLogitsFn | None = None,
) -> list[FlipCounts]:
    """Flips along the sampler's trajectory, which starts from real text noised to the first interior time; the last
    entry is for its end point.

    Args:
        denoise: (z, t, self_cond) -> belief, with the sampler's escape if it has one; the other arguments are those of
            `rollin_flips`.
    """
    times = interior_times(times)
    if not times:
        raise ValueError(
            "cumulative flips start at the first interior time and a grid of 1 step has none; use 2 steps or more"
        )
    clean_ids = decode(x).argmax(-1)
    z = path.mix(x, noise.normal_like(x), times[0])
    trace = sample(denoise, sampler, path, [*times, path.t_max], z, noise)
    end = trace.beliefs[-1]._replace(mean=trace.z)
    states, call_times = [*trace.states, trace.states[-1]], [*trace.times, trace.times[-1]]
    steps = zip(states, call_times, [*trace.beliefs, end], strict=True)
    return [count_flips(decode, clean_ids, mask, z, t, belief, token_logits) for z, t, belief in steps]


def rollin_curves(rollin: list[FlipCounts], cumulative: list[FlipCounts], times: list[float]) -> RollInCurves:
    """Rates from the sums of `rollin_flips` and `cumulative_flips` on one sampling grid."""
    inner = interior_times(times)
    single = [rollin_rates(flips, t) for flips, t in zip(rollin, inner, strict=True)]
    trajectory = [rollin_rates(flips, t) for flips, t in zip(cumulative, [*inner, times[-1]], strict=True)]
    return RollInCurves(single, trajectory[:-1], trajectory[-1])


def rollin_rates(counts: FlipCounts, t: float) -> RollInRates:
    """Rates per valid position of the belief at t."""
    n = float(counts.num_positions.sum())
    flip, wrong, floor = (float(sums.sum()) / max(n, 1.0) for sums in counts[1:])
    gap = counts.token_errors - counts.bayes_error
    error = float(gap.std()) * len(gap) ** 0.5 if len(gap) > 1 else 0.0
    z_score = float(gap.sum()) / error if error > 0 else float("nan")
    return RollInRates(t, flip, wrong, floor, z_score, SampleSize(int(n), len(gap)))


def count_flips(
    decode: DecodeFn,
    clean_ids: Ids,
    mask: Mask,
    z: Latents,
    t: float,
    belief: Posterior,
    token_logits: TokenLogitsFn | None,
) -> FlipCounts:
    """Sums of one belief against the clean decode."""
    logits = belief.logits if token_logits is None else token_logits(z, t, belief)
    flip = decode(belief.mean).argmax(-1) != clean_ids
    errors = (flip, *token_errors(logits, clean_ids))
    return FlipCounts(mask.double().sum(1), *(sum_per_sequence(values, mask) for values in errors))


def interior_times(times: list[float]) -> list[float]:
    """The times strictly between noise and text."""
    return [t for t in times if times[0] < t < times[-1]]
