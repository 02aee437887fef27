"""Roll-in and cumulative flips: what one step, and what a sampler's own states, still get wrong on real text.

Flips mean nothing without the floor beside them: most of what a sampler has lost at its end was destroyed by the noise
at its first time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from textflow.diagnostics.bootstrap import Size, Sums
from textflow.diagnostics.perturbation import Read
from textflow.diagnostics.residual import doubts, per_sequence, terminal
from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler, sample
from textflow.types import Denoise, Ids, Latents, Logits, Mask, Posterior

Tokens = Callable[[Latents, float, Posterior], Logits]


class Flips(NamedTuple):
    """Sums over the valid positions of each sequence; batches are `joined`.

    Args:
        positions: valid positions.
        flips: the guess is read otherwise than the text.
        wrong: argmax gamma is not the clean decode; NaN without gamma.
        doubt: 1 - max gamma; NaN without gamma.
    """

    positions: Sums
    flips: Sums
    wrong: Sums
    doubt: Sums


@dataclass(frozen=True)
class RollIn:
    """Flips of one belief about real text, beside what no reader could avoid.

    Args:
        t: time of the belief.
        flip: flips of the guess, a valid position.
        wrong: errors of argmax gamma; NaN without gamma.
        floor: 1 - mean max gamma, the Bayes floor of a calibrated gamma; NaN without gamma.
        z_score: of wrong - floor over sequences: N(0, 1) if gamma is calibrated and real text is read as itself.
        size: n positions and n sequences.
    """

    t: float
    flip: float
    wrong: float
    floor: float
    z_score: float
    size: Size

    @property
    def excess_flip(self) -> float:
        """flip - wrong: what reading the mean costs over reading the token posterior [ours]."""
        return self.flip - self.wrong


class Depth(NamedTuple):
    """All of one number of steps K.

    Args:
        rolls: one belief from noised real text, at each interior time.
        cumulative: beliefs at the sampler's own states from the first interior time on.
        final: flips of where the sampler ends.
    """

    rolls: list[RollIn]
    cumulative: list[RollIn]
    final: RollIn


@torch.no_grad()
def rollin(
    denoise: Denoise,
    read: Read,
    path: Path,
    x: Latents,
    mask: Mask,
    times: list[float],
    noise: Noise,
    tokens: Tokens | None = None,
    passes: int = 1,
) -> list[Flips]:
    """Flips of one belief from noised real text, at each time strictly between 0 and 1; the last is the terminal one.

    Args:
        denoise: (z, t, prev) -> belief, without an escape.
        read: latents -> logits, clean.
        path: how text becomes noise.
        x: latents of real text.
        mask: True where x is text.
        times: of a grid, increasing.
        noise: one stream a sequence.
        tokens: (z, t, belief) -> logits of p(token | z_t); default: the belief's own, if it has them.
        passes: 2 for a self-conditioned denoiser.
    """
    said = read(x).argmax(-1)

    def at(t: float) -> Flips:
        met = terminal(denoise, path, x, mask, t, noise, passes)
        return compare(read, said, mask, met.z, t, met.belief, tokens)

    return [at(t) for t in interior(times)]


@torch.no_grad()
def cumulative(
    denoise: Denoise,
    sampler: Sampler,
    read: Read,
    path: Path,
    x: Latents,
    mask: Mask,
    times: list[float],
    noise: Noise,
    tokens: Tokens | None = None,
    last: Denoise | None = None,
) -> list[Flips]:
    """Flips of the beliefs at the sampler's own states, from real text noised to the first interior time; the last of
    the list is of where it ends.

    Args:
        denoise: (z, t, prev) -> belief, with the sampler's escape if it has one.
        sampler: the step.
        last: denoises in the step to 1 (default: denoise); the other arguments are those of `rollin`.
    """
    times = interior(times)
    if not times:
        raise ValueError(
            "cumulative flips start at the first interior time and a grid of 1 step has none; use steps >= 2"
        )
    said = read(x).argmax(-1)
    z = path.mix(x, noise.normal_like(x), times[0])
    trace = sample(denoise, sampler, path, [*times, 1.0], z, noise, last=last)
    met = zip(trace.states, trace.times, trace.beliefs, strict=True)
    flips = [compare(read, said, mask, z, t, belief, tokens) for z, t, belief in met]
    end = Posterior(trace.z, trace.beliefs[-1].logits)
    return [*flips, compare(read, said, mask, trace.states[-1], trace.times[-1], end, tokens)]


def depth(rolls: list[Flips], own: list[Flips], times: list[float]) -> Depth:
    """What the sums of `rollin` and `cumulative` say of one number of steps.

    Args:
        rolls: of `rollin`.
        own: of `cumulative`.
        times: of the grid of both.
    """
    inner = interior(times)
    alone = [rates(flips, t) for flips, t in zip(rolls, inner, strict=True)]
    along = [rates(flips, t) for flips, t in zip(own, [*inner, 1.0], strict=True)]
    return Depth(alone, along[:-1], along[-1])


def rates(seen: Flips, t: float) -> RollIn:
    """Rates a valid position.

    Args:
        seen: sums of all sequences.
        t: time of the belief.
    """
    n = float(seen.positions.sum())
    flip, wrong, floor = (float(sums.sum()) / max(n, 1.0) for sums in (seen.flips, seen.wrong, seen.doubt))
    gap = seen.wrong - seen.doubt
    error = float(gap.std()) * len(gap) ** 0.5 if len(gap) > 1 else 0.0
    z_score = float(gap.sum()) / error if error > 0 else float("nan")
    return RollIn(t, flip, wrong, floor, z_score, Size(int(n), len(gap)))


def compare(read: Read, said: Ids, mask: Mask, z: Latents, t: float, belief: Posterior, tokens: Tokens | None) -> Flips:
    """Sums of one belief against the clean decode."""
    logits = belief.logits if tokens is None else tokens(z, t, belief)
    flip = read(belief.mean).argmax(-1) != said
    seen = (flip, *doubts(logits, said))
    return Flips(mask.double().sum(1), *(per_sequence(values, mask) for values in seen))


def interior(times: list[float]) -> list[float]:
    """The times strictly between noise and text."""
    return [t for t in times if 0 < t < 1]
