"""Sampler: one step from noise towards text; `sample` is the only loop."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.types import Conditioning, Denoise, Latents, PositionMask, Posterior


class State(NamedTuple):
    """The state of the sampling loop between two steps.

    Args:
        z: latents at time t [B, S, d].
        t: time, within the path's ends.
        belief: posterior that led here; None before the first step.
        prev_t: start of the step before; None before the first step.
    """

    z: Latents
    t: float
    belief: Posterior | None = None
    prev_t: float | None = None

    @property
    def self_cond(self) -> Latents | None:
        """Mean of the previous belief, which a network may be conditioned on."""
        return None if self.belief is None else self.belief.mean

    def next(self, z: Latents, t_next: float, belief: Posterior) -> "State":
        """The state after a step from t to t_next."""
        return State(z, t_next, belief, self.t)


class Sampler(ABC):
    """A rule for one step of the sampling loop."""

    @abstractmethod
    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        """The state at t_next, state.t < t_next <= path.t_max, with the belief that led there.

        Args:
            denoise: (z, t, self_cond, t_next, carry) -> belief.
            path: probability path that the latents follow.
            state: latents, time and previous belief.
            t_next: end of the step.
            noise: random streams, one a sample.
        """


def ask(denoise: Denoise, state: State, t_next: float) -> Posterior:
    """The belief at a state, for a step that ends at t_next."""
    carry = None if state.belief is None else state.belief.carry
    return denoise(state.z, state.t, state.self_cond, t_next, carry)


class Trace(NamedTuple):
    """A sampling run: final latents, and the time, the state before and the belief of each step.

    Args:
        z: final latents [B, S, d].
        times: start of each step.
        states: latents at the start of each step.
        beliefs: posterior of each step.
    """

    z: Latents
    times: list[float]
    states: list[Latents]
    beliefs: list[Posterior]


def sample(
    denoise: Denoise,
    sampler: Sampler,
    path: ProbPath,
    times: list[float],
    z: Latents,
    noise: Noise,
    prompt: Latents | None = None,
    prompt_mask: PositionMask | None = None,
    final_denoise: Denoise | None = None,
    keep_logits: bool = True,
) -> Trace:
    """Integrate from times[0] to times[-1].

    Args:
        denoise: (z, t, self_cond, t_next, carry) -> belief.
        sampler: rule for one step.
        path: probability path that the latents follow.
        times: increasing grid, from the path's noisy end to its clean end.
        z: noise at times[0] [B, S, d].
        noise: random streams, one a sample.
        prompt: clean latents of a prompt [B, S, d].
        prompt_mask: True where the prompt stands; its latents are restored after each step.
        final_denoise: denoiser of the last step (default: denoise); no later step would see what an escape commits
            there.
        keep_logits: store the logits of all beliefs in the trace, [B, L, V] a step, or what carries them; otherwise of
            the last one alone.
    """
    restore = Conditioning(prompt=prompt, prompt_mask=prompt_mask).restore_prompt
    first = None if prompt_mask is None else Posterior(restore(torch.zeros_like(z)))
    state, states, beliefs = State(restore(z), times[0], first), list[Latents](), list[Posterior]()
    for t_next in times[1:]:
        states.append(state.z)
        last = t_next >= times[-1]
        state = sampler.step(final_denoise or denoise if last else denoise, path, state, t_next, noise)
        belief = state.belief
        assert belief is not None
        kept = belief.logits if keep_logits or last else None
        beliefs.append(belief._replace(logits=kept, carry=belief.carry if keep_logits or last else None))
        state = state._replace(z=restore(state.z), belief=belief._replace(mean=restore(belief.mean)))
    return Trace(state.z, times[:-1], states, beliefs)
