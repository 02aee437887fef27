"""Nouns of discrete diffusion: the training objective and the sampler."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from textflow.discrete.denoiser import TokenDenoiseFn, TokenDiT
from textflow.discrete.process import Process
from textflow.noise import Noise
from textflow.types import Batch, Ids, Logits, Mask, Times


class DiscreteObjective(nn.Module, ABC):
    """A training loss of a network over corrupted tokens, and the law of clean tokens that the network stands for.

    Args:
        process: corruption of the tokens.
        sampling_eps: smallest 1 - t in training, in (0, 1).
        time_conditioning: whether the network is conditioned on the noise level; without it the sampler reuses states
            until a token changes.
        antithetic_sampling: whether the times of a batch are stratified over [0, 1] (MDLM) or independent.
        loss_on_padding: whether padding counts in the loss.
    """

    def __init__(
        self,
        process: Process,
        sampling_eps: float,
        time_conditioning: bool,
        antithetic_sampling: bool,
        loss_on_padding: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < sampling_eps < 1:
            raise ValueError(
                f"{type(self).__name__} got sampling_eps = {sampling_eps}; it needs a fraction above 0 and below 1"
            )
        self.process, self.sampling_eps = process, sampling_eps
        self.time_conditioning, self.antithetic_sampling = time_conditioning, antithetic_sampling
        self.loss_on_padding = loss_on_padding

    def sample_times(self, uniform: Times) -> Times:
        """Times of rows from uniform numbers; antithetic sampling shifts row i of B by i / B, modulo 1."""
        if self.antithetic_sampling:
            offset = torch.arange(len(uniform), device=uniform.device) / len(uniform)
            uniform = (uniform / len(uniform) + offset) % 1
        return 1 - ((1 - self.sampling_eps) * uniform + self.sampling_eps)

    def network_sigma(self, t: Times) -> Times:
        """Noise level at t that the network is conditioned on."""
        return self.process.sigma(t) if self.time_conditioning else torch.zeros_like(t)

    def set_teacher(self, objective: "DiscreteObjective", teacher: TokenDiT) -> None:
        """Take a teacher, for objectives that need one.

        Args:
            objective: objective that the teacher was trained for.
            teacher: trained network.
        """
        raise ValueError(
            f"{type(self).__name__} learns from data, not from a teacher; use the objective DiscreteConsistency"
        )

    @abstractmethod
    def forward(self, net: TokenDiT, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses by name: "loss" is minimised, "tokens" is the number of tokens that it is a mean over.

        Args:
            net: network to train.
            batch: token ids and masks.
            step: number of optimizer steps taken, for curricula.
        """

    def log_probs(self, logits: Logits, ids: Ids) -> Logits:
        """log p(clean token | corrupted tokens ids) [B, L, N] from the network's logits, float32."""
        return logits.float().log_softmax(-1)


@dataclass(frozen=True)
class DiscreteSampler(ABC):
    """From noise to text over token ids, one step after another.

    Args:
        temperature: temperature of the token distribution, above 0; 1 leaves it unchanged.
        eps: part of the time left to the last pass, in [0, 1).
    """

    process: ClassVar[type[Process]]  # corruption that its steps undo

    temperature: float = 1.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.eps < 1:
            raise ValueError(
                f"{type(self).__name__} got temperature {self.temperature} and eps {self.eps}; it needs a temperature "
                "above 0 and eps in [0, 1)"
            )

    def sample(
        self, denoise: TokenDenoiseFn, ids: Ids, times: list[float], noise: Noise, prompt_mask: Mask | None = None
    ) -> Ids:
        """Token ids of text [B, L].

        Args:
            denoise: network.
            ids: token ids at t = 0 [B, L], and those of a prompt.
            times: increasing times from 0 to 1.
            noise: random streams, one a sample.
            prompt_mask: True on a prompt, which stays [B, L]; default: none.
        """
        times, prompt = [time * (1 - self.eps) for time in times], ids
        fixed = torch.zeros_like(ids, dtype=torch.bool) if prompt_mask is None else prompt_mask.to(ids.device)
        for t, t_next in pairwise(times):
            ids = torch.where(fixed, prompt, self.step(denoise, ids, t, t_next, noise))
        return torch.where(fixed, prompt, self.finish(denoise, ids, times[-1], noise))

    @abstractmethod
    def step(self, denoise: TokenDenoiseFn, ids: Ids, t: float, t_next: float, noise: Noise) -> Ids:
        """Token ids at t_next [B, L]; each row draws the same number of random numbers, whatever its tokens are."""

    @abstractmethod
    def finish(self, denoise: TokenDenoiseFn, ids: Ids, t: float, noise: Noise) -> Ids:
        """Token ids of text from those at the last time t [B, L]."""
