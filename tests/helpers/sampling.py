"""Parts of sampling for tests: one step, replayed noise, a belief, and a codec whose latents are given."""

from collections.abc import Callable, Iterable

import torch

from textflow.codecs import Codec
from textflow.noise import Noise
from textflow.paths import ProbPath
from textflow.samplers import Sampler, State
from textflow.types import AttentionMask, Ids, Latents, Logits, Mask, Posterior


def one_step(
    sampler: Sampler,
    denoise: Callable[..., Posterior],
    path: ProbPath,
    z: Latents,
    t: float,
    t_next: float,
    self_cond: Latents | None,
    noise: Noise,
    prev_t: float | None = None,
) -> tuple[Latents, Posterior]:
    """z at t_next and the belief of the step."""
    before = None if self_cond is None else Posterior(self_cond)
    state = sampler.step(denoise, path, State(z, t, before, prev_t), t_next, noise)
    assert state.belief is not None
    return state.z, state.belief


class ReplayedNoise(Noise):
    """Given draws in place of random streams."""

    def __init__(self, draws: Iterable[Latents]) -> None:
        self.draws = list(draws)

    def normal_like(self, z: torch.Tensor) -> torch.Tensor:
        return self.draws.pop(0)


def tanh_belief(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """A belief that depends on z at every time, also in pure noise."""
    return Posterior(torch.tanh(z + t))


class GivenLatents(Codec):
    """Encodes every batch as these latents."""

    has_decoder = False

    def __init__(self, x: Latents, vocab_size: int = 1) -> None:
        super().__init__()
        self.x, self.dim, self.vocab_size = x, x.shape[-1], vocab_size

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return self.x

    def decode_logits(self, z: Latents) -> Logits:
        raise NotImplementedError
