"""Nouns of discrete diffusion: the process that corrupts tokens, the objective and the sampler."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from textflow.discrete.denoiser import HiddenStates, TokenDiT
from textflow.noise import Noise
from textflow.types import Batch, Ids, Logits, RowMask, Times


@dataclass(frozen=True)
class Process(ABC):
    """Corruption of tokens: a token survives to time t with probability alpha(t) = 1 - (1 - eps) (1 - t) (log-linear),
    else it becomes a token of the stationary law.

    Args:
        eps: fraction of tokens that survive at t = 0, in [0, 1).
    """

    eps: float = 1e-3

    def survival(self, t: Tensor) -> Tensor:
        """Probability that a token is unchanged, alpha = exp(-sigma)."""
        return 1 - (1 - self.eps) * (1 - t)

    def sigma(self, t: Tensor) -> Tensor:
        """Total noise -log(survival), which a network may be conditioned on."""
        return -torch.log1p((self.eps - 1) * (1 - t))

    def rate(self, t: Tensor) -> Tensor:
        """-d sigma / dt."""
        return (1 - self.eps) / self.survival(t)

    def corrupt(self, ids: Ids, stationary: Ids, uniform: Tensor, t: Tensor) -> Ids:
        """Token ids at time t [B, L].

        Args:
            ids: token ids [B, L].
            stationary: tokens of the stationary law that take the place of the lost ones [B, L].
            uniform: uniform numbers on [0, 1) [B, L]; a token survives where they are at least 1 - survival(t).
            t: time of each row [B]; 0 is noise, 1 is text.
        """
        return torch.where(uniform < 1 - self.survival(t)[:, None], stationary, ids)

    @abstractmethod
    def num_states(self, vocab_size: int) -> int:
        """Number of values of a corrupted token, for a vocabulary without extra tokens."""

    @abstractmethod
    def stationary(self, ids: Ids, num_states: int, noise: Noise | None = None) -> Ids:
        """Tokens of the law at t = 0, of the shape of ids [B, L]; drawn from torch's generator without `noise`."""


class DiscreteObjective(nn.Module, ABC):
    """A training loss of a network over corrupted tokens, and the law of clean tokens that the network stands for.

    Args:
        process: corruption of the tokens.
        sampling_eps: smallest 1 - t in training, in (0, 1).
        time_conditioning: whether the network is conditioned on the noise level; without it the sampler reuses states
            until a token changes.
        antithetic_sampling: whether the times of a batch are stratified over [0, 1] (MDLM) or independent.
    """

    def __init__(
        self, process: Process, sampling_eps: float, time_conditioning: bool, antithetic_sampling: bool
    ) -> None:
        super().__init__()
        if not 0 < sampling_eps < 1:
            raise ValueError(
                f"{type(self).__name__} got sampling_eps = {sampling_eps}; it needs a fraction above 0 and below 1"
            )
        self.process, self.sampling_eps = process, sampling_eps
        self.time_conditioning, self.antithetic_sampling = time_conditioning, antithetic_sampling

    def sample_times(self, uniform: Times) -> Times:
        """Times of rows from uniform numbers; antithetic sampling shifts row i of B by i / B, modulo 1."""
        if self.antithetic_sampling:
            offset = torch.arange(len(uniform), device=uniform.device) / len(uniform)
            uniform = (uniform / len(uniform) + offset) % 1
        return 1 - ((1 - self.sampling_eps) * uniform + self.sampling_eps)

    def network_sigma(self, t: Times) -> Times:
        """Noise level at t that the network is conditioned on."""
        return self.process.sigma(t) if self.time_conditioning else torch.zeros_like(t)

    @abstractmethod
    def forward(self, net: TokenDiT, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses by name: "loss" is minimised, "tokens" is the number of tokens that it is a mean over.

        Args:
            net: network to train.
            batch: token ids and masks.
            step: number of optimizer steps taken, for curricula.
        """

    @abstractmethod
    def log_probs(self, logits: Logits, ids: Ids) -> Logits:
        """log p(clean token | corrupted tokens) [B, L, N] from the network's logits."""


@dataclass
class TokenDenoiseFn:
    """The network and its noise levels, the only thing that a discrete sampler calls. Without time conditioning a row
    is evaluated again only after one of its tokens has changed.

    Args:
        net: network over corrupted tokens.
        sigma: time of each row -> noise level that the network is conditioned on.
        process: corruption of the tokens.
        time_conditioning: whether the hidden states depend on time.
        observe: called with (ids, t, hidden states) of each network pass, for diagnostics.
    """

    net: TokenDiT
    sigma: Callable[[Times], Times]
    process: Process
    time_conditioning: bool = False
    observe: Callable[[Ids, float, HiddenStates], None] | None = None
    ids: Ids | None = None
    states: HiddenStates | None = None

    def __call__(self, ids: Ids, t: float, rows: RowMask | None = None) -> HiddenStates:
        """Hidden states [B, L, width].

        Args:
            ids: corrupted tokens [B, L].
            t: time in [0, 1].
            rows: rows whose states are needed [B]; default: all.
        """
        if self.ids is None or self.states is None:
            stale = torch.ones_like(ids[:, 0], dtype=torch.bool)
            self.ids, self.states = ids, self._evaluate(ids, t)
            return self.states
        stale = (ids != self.ids).any(1) | self.time_conditioning
        if rows is not None:
            stale &= rows
        if bool(stale.any()):
            states = self._evaluate(ids if bool(stale.all()) else ids[stale], t)
            self.ids = torch.where(stale[:, None], ids, self.ids)
            self.states = states if bool(stale.all()) else self.states.index_put((stale,), states)
        return self.states

    def logits(self, states: Tensor) -> Tensor:
        """Logits of hidden states [..., N]."""
        return self.net.lm_logits(states)

    def _evaluate(self, ids: Ids, t: float) -> HiddenStates:
        states = self.net(ids, self.sigma(torch.full((len(ids),), t, dtype=torch.float64, device=ids.device)))
        if self.observe is not None:
            self.observe(ids, t, states)
        return states


@dataclass(frozen=True)
class DiscreteSampler(ABC):
    """From noise to text over token ids, one step after another.

    Args:
        temperature: temperature of the token distribution, above 0; 1 leaves it unchanged.
        eps: part of the time left to the last pass, in [0, 1).
    """

    temperature: float = 1.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.eps < 1:
            raise ValueError(
                f"{type(self).__name__} got temperature {self.temperature} and eps {self.eps}; it needs a temperature "
                "above 0 and eps in [0, 1)"
            )

    def sample(self, denoise: TokenDenoiseFn, ids: Ids, times: list[float], noise: Noise) -> Ids:
        """Token ids of text [B, L].

        Args:
            denoise: network.
            ids: token ids at t = 0 [B, L]; under an absorbing process the unmasked ones are a prompt.
            times: increasing times from 0 to 1.
            noise: random streams, one a sample.
        """
        times = [time * (1 - self.eps) for time in times]
        for t, t_next in pairwise(times):
            ids = self.step(denoise, ids, t, t_next, noise)
        return self.finish(denoise, ids, times[-1], noise)

    @abstractmethod
    def step(self, denoise: TokenDenoiseFn, ids: Ids, t: float, t_next: float, noise: Noise) -> Ids:
        """Token ids at t_next [B, L]; each row draws the same number of random numbers, whatever its tokens are."""

    @abstractmethod
    def finish(self, denoise: TokenDenoiseFn, ids: Ids, t: float, noise: Noise) -> Ids:
        """Token ids of text from those at the last time t [B, L]."""
