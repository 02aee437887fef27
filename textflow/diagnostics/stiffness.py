"""Stiffness: how much a sampler's step stretches a small difference between two states [ours].

Lambda_k = |d z_(k+1) / d z_k|_2 a row, of the sampler's own map with guidance and escape closed over and the step's
noise held. A map to separated modes must be stiff; a categorical choice jumps instead, where no derivative sees it, so
jumps are counted. Rows of a batch must not depend on each other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp, vjp

from textflow.diagnostics.sampler_steps import Step, copied, walk
from textflow.diagnostics.spectral import Top, differentiable, size, spectral_norm, unit
from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler
from textflow.types import Choice, Denoise, Latents


@dataclass(frozen=True)
class Stiffness:
    """What was measured; every norm is found from below, and its spread says how well.

    Args:
        steps: Lambda_k; the belief handed on by self-conditioning stands still.
        spread: (largest - smallest) / largest over the starts.
        total: |d z_K / d z_0|, by chained products.
        total_spread: of total.
        jumps: positions whose choice changes within a small step of z.
        times: the grid.
        sampler: name and settings.
        positions: latents a row.
        starts: of the iteration (see `spectral_norm`).
        iterations: of each start.
        carry: whether the belief handed on moves in total.
        reach: of the moves that may jump, as a share of |z|.
        seeds: of the samples' streams.
        dtype: of the states.
    """

    steps: Float[Tensor, "K B"]
    spread: Float[Tensor, "K B"]
    total: Float[Tensor, " B"]
    total_spread: Float[Tensor, " B"]
    jumps: Int[Tensor, "K B"]
    times: list[float]
    sampler: str
    positions: int
    starts: int
    iterations: int
    carry: bool
    reach: float
    seeds: list[int]
    dtype: str

    @property
    def peak(self) -> Float[Tensor, " B"]:
        """max_k Lambda_k."""
        return self.steps.amax(0)

    @property
    def bound(self) -> Float[Tensor, " B"]:
        """prod_k Lambda_k >= total, where no belief is carried from step to step."""
        return self.steps.prod(0)

    def summary(self) -> dict[str, Tensor]:
        """Means and maxima over rows: a number, or one a step."""
        rows = {"stiffness": self.steps, "peak": self.peak, "total": self.total, "bound": self.bound}
        means = {name: value.mean(-1) for name, value in rows.items()}
        most = {f"{name}_max": value.amax(-1) for name, value in rows.items()}
        return means | most | {"spread_max": self.spread.amax(-1), "jumps": self.jumps.double().mean(-1)}


def of_step(step: Step, starts: Float[Tensor, "n B S d"], iterations: int) -> Top:
    """Lambda_k."""
    pull = vjp(step.go, step.z)[1]
    return spectral_norm(lambda v: jvp(step.go, (step.z,), (v,))[1], lambda u: pull(u)[0], starts, iterations)


def of_walk(steps: list[Step], starts: Float[Tensor, "n B S d"], iterations: int, carry: bool = True) -> Top:
    """Lambda_total, by products through one step at a time, so that memory is that of one step."""
    base = [(step.z, torch.zeros_like(step.z) if step.prev is None else step.prev) for step in steps]

    def push(v: Latents) -> Latents:
        p = torch.zeros_like(v)
        for step, at in zip(steps, base, strict=True):
            v, p = jvp(step.pair, at, (v, p if carry else torch.zeros_like(p)))[1]
        return v

    def pull(u: Latents) -> Latents:
        p = torch.zeros_like(u)
        for step, at in zip(reversed(steps), reversed(base), strict=True):
            u, p = vjp(step.pair, *at)[1]((u, p if carry else torch.zeros_like(p)))
        return u

    return spectral_norm(push, pull, starts, iterations)


def jumps(step: Step, probes: Float[Tensor, "n B S d"], reach: float = 1e-3) -> Int[Tensor, " B"]:
    """Positions whose choice changes when z moves by reach |z|, either way along any of the probes.

    Args:
        step: of a walk.
        probes: directions.
        reach: length of the move, as a share of |z|.
    """
    before, length = step.choose(step.z), reach * size(step.z)[:, None, None].to(step.z)
    if before is None:
        return torch.zeros(len(step.z), dtype=torch.int64, device=step.z.device)
    changed = torch.zeros_like(before, dtype=torch.bool)
    for probe in probes:
        for way in (length, -length):
            changed |= step.choose(step.z + way * unit(probe)) != before
    return changed.sum(-1)


def stiffness(
    denoiser: Callable[[Noise], Denoise],
    sampler: Sampler,
    path: Path,
    times: list[float],
    z: Latents,
    noise: Noise,
    probes: Noise,
    clean: Latents | None = None,
    fixed: Choice | None = None,
    last: Denoise | None = None,
    iterations: int = 8,
    starts: int = 3,
    carry: bool = True,
    reach: float = 1e-3,
    rows: int = 8,
) -> Stiffness:
    """Stiffness of every step and of the whole walk.

    Args:
        denoiser: noise -> the denoiser that draws from it (one with a sampled escape; the others ignore it).
        sampler: the step.
        path: carries z.
        times: increasing, from 0 to 1.
        z: noise at times[0].
        noise: the samples' own streams, as `sample` would be given them; they are left as they are.
        probes: streams of the starts, one a row.
        clean: latents of a prompt.
        fixed: True where the prompt stands; nothing moves there.
        last: denoises in the step to u = 1 (default: as before).
        iterations: of `spectral_norm`, >= 1.
        starts: of `spectral_norm`, >= 1.
        carry: whether the belief handed on by self-conditioning is part of the state in the whole walk. In a single
            step it stands still [ours].
        reach: of the moves that may jump, as a share of |z|.
        rows: at a time; bounds memory.
    """
    with differentiable():
        v, parts = probes.normal(starts, *z.shape[1:]).to(z).transpose(0, 1), []
        for i in range(0, len(z), rows):
            part = slice(i, i + rows)
            there, still = (None if held is None else held[part].clone() for held in (clean, fixed))
            steps = walk(denoiser, sampler, path, times, z[part].clone(), copied(noise, part), there, still, last)
            parts.append(of_rows(steps, v[:, part], iterations, carry, reach))
    norms, spread, total, total_spread, moved = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    return Stiffness(
        norms,
        spread,
        total,
        total_spread,
        moved,
        times=list(times),
        sampler=str(sampler),
        positions=z.shape[1],
        starts=starts,
        iterations=iterations,
        carry=carry,
        reach=reach,
        seeds=[stream.initial_seed() for stream in noise.streams],
        dtype=str(z.dtype).removeprefix("torch."),
    )


def of_rows(
    steps: list[Step], starts: Float[Tensor, "n B S d"], iterations: int, carry: bool, reach: float
) -> tuple[Tensor, ...]:
    """Norms and spreads of the steps [K, B] and of the walk [B], and jumps [K, B]."""
    tops = [of_step(step, starts, iterations) for step in steps]
    total = of_walk(steps, starts, iterations, carry)
    pairs = zip(steps, tops, strict=True)
    moved = [jumps(step, torch.cat([starts, top.direction[None]]), reach) for step, top in pairs]
    norms, spreads = torch.stack([top.value for top in tops]), torch.stack([top.spread for top in tops])
    return norms, spreads, total.value, total.spread, torch.stack(moved)
