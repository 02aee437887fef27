"""Sampling run as a chain of deterministic maps, one per step, at the recorded states and with fixed noise."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State
from textflow.types import Conditioning, Denoise, Latents, PositionMask, Posterior


def copy_streams(noise: Noise, rows: slice = slice(None)) -> Noise:
    """Copy the current streams of some rows; draws from the copy leave the original unchanged."""
    copy = Noise([])
    copy.streams = [stream.clone_state() for stream in noise.streams[rows]]
    return copy


@dataclass(frozen=True)
class SamplerStep:
    """One sampling step as a deterministic map; `noise` holds the stream state before the step."""

    make_denoise: Callable[[Noise], Denoise]
    sampler: Sampler
    path: ProbPath
    t: float
    t_next: float
    prev_t: float | None
    restore_prompt: Callable[[Latents], Latents]
    noise: Noise
    z: Latents
    self_cond: Latents | None

    def run(self, z: Latents, self_cond: Latents | None, noise: Noise) -> tuple[Latents, Posterior]:
        """(z, self_cond) -> the next z, and the belief passed on."""
        before = None if self_cond is None else Posterior(self_cond)
        state = State(self.restore_prompt(z), self.t, before, self.prev_t)
        state = self.sampler.step(self.make_denoise(noise), self.path, state, self.t_next, noise)
        belief = state.belief
        assert belief is not None
        return self.restore_prompt(state.z), belief._replace(mean=self.restore_prompt(belief.mean))

    def next_z(self, z: Latents) -> Latents:
        """z -> the next z, with self_cond fixed."""
        return self.run(z, self.self_cond, copy_streams(self.noise))[0]

    def next_state(self, z: Latents, self_cond: Latents) -> tuple[Latents, Latents]:
        """(z, self_cond) -> (z, self_cond) of the next step. The first step ignores self_cond if it received none."""
        z, belief = self.run(z, None if self.self_cond is None else self_cond, copy_streams(self.noise))
        return z, belief.mean

    def committed_ids(self, z: Latents) -> Int[Tensor, "B S"] | None:
        """Tokens committed in the step; None without an escape."""
        return self.run(z, self.self_cond, copy_streams(self.noise))[1].committed


def record_steps(
    make_denoise: Callable[[Noise], Denoise],
    sampler: Sampler,
    path: ProbPath,
    times: list[float],
    z: Latents,
    noise: Noise,
    prompt: Latents | None = None,
    prompt_mask: PositionMask | None = None,
    final_denoise: Denoise | None = None,
) -> list[SamplerStep]:
    """Record the steps of `sample`, each as a map at its state. Arguments as in `sampler_stiffness`."""
    restore, prev_t, steps = Conditioning(prompt=prompt, prompt_mask=prompt_mask).restore_prompt, None, []
    z, self_cond = restore(z), None if prompt_mask is None else restore(torch.zeros_like(z))
    for t, t_next in pairwise(times):
        denoise = make_denoise if final_denoise is None or t_next < 1 else lambda _: final_denoise
        steps.append(SamplerStep(denoise, sampler, path, t, t_next, prev_t, restore, copy_streams(noise), z, self_cond))
        z, belief = steps[-1].run(z, self_cond, noise)
        self_cond, prev_t = belief.mean, t
    return steps
