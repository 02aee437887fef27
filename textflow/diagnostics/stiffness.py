"""Stiffness: factor by which a sampler's step stretches a small difference between two states [ours].

Lambda_k = |d z_(k+1) / d z_k|_2 per row, of the sampler's map with guidance and escape included and the step's
noise fixed. A map to separated modes must be stiff. A categorical commitment jumps instead, which no derivative shows,
so jumps are counted. Rows of a batch must not depend on each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp, vjp

from textflow.diagnostics.sampler_steps import SamplerStep, copy_streams, record_steps
from textflow.diagnostics.spectral import SpectralNorm, forward_mode, row_norm, spectral_norm, unit_rows
from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler
from textflow.types import Denoise, Latents, PositionMask


@dataclass(frozen=True)
class StiffnessResult:
    """Norms and jumps of a sampling run; each norm is a lower bound, and its spread indicates convergence.

    Args:
        step_norms: Lambda_k; the belief passed on by self-conditioning is held fixed.
        step_spread: (largest - smallest) / largest over the starts.
        total_norm: |d z_K / d z_0|, by chained products.
        total_spread: (largest - smallest) / largest of total_norm over the starts.
        num_jumps: number of positions whose committed token changes under a small move of z.
        times: sampling grid.
        sampler: name and settings of the sampler.
        num_latents: number of latents per row.
        num_starts: number of starting directions (see `spectral_norm`).
        num_iterations: iterations per start.
        carry_self_cond: True if total_norm includes the belief passed on.
        jump_radius: length of the moves tested for jumps, as a share of |z|.
        seeds: random seeds of the samples' streams.
        dtype: dtype of the states.
    """

    step_norms: Float[Tensor, "K B"]
    step_spread: Float[Tensor, "K B"]
    total_norm: Float[Tensor, " B"]
    total_spread: Float[Tensor, " B"]
    num_jumps: Int[Tensor, "K B"]
    times: list[float]
    sampler: str
    num_latents: int
    num_starts: int
    num_iterations: int
    carry_self_cond: bool
    jump_radius: float
    seeds: list[int]
    dtype: str

    @property
    def peak(self) -> Float[Tensor, " B"]:
        """max_k Lambda_k."""
        return self.step_norms.amax(0)

    @property
    def bound(self) -> Float[Tensor, " B"]:
        """prod_k Lambda_k >= total, where no belief is carried from step to step."""
        return self.step_norms.prod(0)

    def summary(self) -> dict[str, Tensor]:
        """Means and maxima over rows: a scalar, or one value per step."""
        rows = {"step_norm": self.step_norms, "peak": self.peak, "total": self.total_norm, "bound": self.bound}
        means = {name: value.mean(-1) for name, value in rows.items()}
        largest = {f"{name}_max": value.amax(-1) for name, value in rows.items()}
        jumps = self.num_jumps.double().mean(-1)
        return {**means, **largest, "step_spread_max": self.step_spread.amax(-1), "num_jumps": jumps}


def step_norm(step: SamplerStep, start_directions: Float[Tensor, "n B S d"], num_iterations: int) -> SpectralNorm:
    """Spectral norm Lambda_k of one step."""
    pull = vjp(step.next_z, step.z)[1]
    return spectral_norm(
        lambda v: jvp(step.next_z, (step.z,), (v,))[1], lambda u: pull(u)[0], start_directions, num_iterations
    )


def whole_map_norm(
    steps: list[SamplerStep],
    start_directions: Float[Tensor, "n B S d"],
    num_iterations: int,
    carry_self_cond: bool = True,
) -> SpectralNorm:
    """Lambda_total, by products through one step at a time; memory is that of one step."""
    base = [(step.z, torch.zeros_like(step.z) if step.self_cond is None else step.self_cond) for step in steps]

    def push(v: Latents) -> Latents:
        p = torch.zeros_like(v)
        for step, at in zip(steps, base, strict=True):
            v, p = jvp(step.next_state, at, (v, p if carry_self_cond else torch.zeros_like(p)))[1]
        return v

    def pull(u: Latents) -> Latents:
        p = torch.zeros_like(u)
        for step, at in zip(reversed(steps), reversed(base), strict=True):
            u, p = vjp(step.next_state, *at)[1]((u, p if carry_self_cond else torch.zeros_like(p)))
        return u

    return spectral_norm(push, pull, start_directions, num_iterations)


def count_jumps(step: SamplerStep, probes: Float[Tensor, "n B S d"], jump_radius: float = 1e-3) -> Int[Tensor, " B"]:
    """Positions whose committed token changes when z moves by +-jump_radius |z| along any of the probes."""
    before, length = step.committed_ids(step.z), jump_radius * row_norm(step.z)[:, None, None].to(step.z)
    if before is None:
        return torch.zeros(len(step.z), dtype=torch.int64, device=step.z.device)
    changed = torch.zeros_like(before, dtype=torch.bool)
    for probe in probes:
        for offset in (length, -length):
            changed |= step.committed_ids(step.z + offset * unit_rows(probe)) != before
    return changed.sum(-1)


def sampler_stiffness(
    make_denoise: Callable[[Noise], Denoise],
    sampler: Sampler,
    path: ProbPath,
    times: list[float],
    z: Latents,
    noise: Noise,
    probes: Noise,
    prompt: Latents | None = None,
    prompt_mask: PositionMask | None = None,
    final_denoise: Denoise | None = None,
    num_iterations: int = 8,
    num_starts: int = 3,
    carry_self_cond: bool = True,
    jump_radius: float = 1e-3,
    batch_size: int = 8,
) -> StiffnessResult:
    """Stiffness of every step and of the complete rollout.

    Args:
        make_denoise: noise -> a denoiser that draws from it (used by a sampled escape, otherwise ignored).
        sampler: sampler of the steps.
        path: probability path.
        times: increasing sampling grid, from 0 to 1.
        z: noise at times[0].
        noise: the samples' streams, as passed to `sample`; they are not advanced.
        probes: streams of the starting directions, one per row.
        prompt: clean latents of the prompt.
        prompt_mask: True at prompt positions, which are held fixed.
        final_denoise: denoiser of the last step, to t = 1 (default: make_denoise).
        num_iterations: iterations of `spectral_norm`, >= 1.
        num_starts: starting directions of `spectral_norm`, >= 1.
        carry_self_cond: True to include the belief passed on by self-conditioning in the state of the rollout; in a
            single step it is held fixed [ours].
        jump_radius: length of the moves tested for jumps, as a share of |z|.
        batch_size: rows per batch; bounds memory.
    """
    record, parts = partial(record_steps, make_denoise, sampler, path, times), []
    with forward_mode():
        v = probes.normal(num_starts, *z.shape[1:]).to(z).transpose(0, 1)
        for i in range(0, len(z), batch_size):
            part = slice(i, i + batch_size)
            fixed, fixed_mask = (None if x is None else x[part].clone() for x in (prompt, prompt_mask))
            steps = record(z[part].clone(), copy_streams(noise, part), fixed, fixed_mask, final_denoise)
            parts.append(batch_stiffness(steps, v[:, part], num_iterations, carry_self_cond, jump_radius))
    norms, spread, total, total_spread, jumps = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    settings = (num_starts, num_iterations, carry_self_cond, jump_radius)
    seeds, dtype = [stream.initial_seed() for stream in noise.streams], str(z.dtype).removeprefix("torch.")
    return StiffnessResult(
        norms, spread, total, total_spread, jumps, list(times), str(sampler), z.shape[1], *settings, seeds, dtype
    )


def batch_stiffness(
    steps: list[SamplerStep],
    start_directions: Float[Tensor, "n B S d"],
    num_iterations: int,
    carry_self_cond: bool,
    jump_radius: float,
) -> tuple[Tensor, ...]:
    """Norms and spreads of the steps [K, B] and of the rollout [B], and jumps [K, B]."""
    tops = [step_norm(step, start_directions, num_iterations) for step in steps]
    total = whole_map_norm(steps, start_directions, num_iterations, carry_self_cond)
    pairs = zip(steps, tops, strict=True)
    jumps = [count_jumps(step, torch.cat([start_directions, top.direction[None]]), jump_radius) for step, top in pairs]
    norms, spreads = torch.stack([top.value for top in tops]), torch.stack([top.spread for top in tops])
    return norms, spreads, total.value, total.spread, torch.stack(jumps)
