"""Denoiser: what learns to guess the text behind noise."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.nets.layers import Vocabulary
from textflow.types import Given, Latents, Logits, Posterior, Rows, Times


class Denoiser(nn.Module, ABC):
    """z_t, t -> belief about the text. `dim` is the width of its latents."""

    dim: int

    @abstractmethod
    def forward(self, z: Latents, t: Times, given: Given = Given()) -> Posterior: ...


class Speaker(Denoiser, ABC):
    """A denoiser with a second head that reads tokens out of latents (ELF's decode mode). Both share one trunk, so
    that rows which denoise and rows which decode travel in one pass.

    `head` reads p(token | z_t) out of the hidden states of denoising rows: a commitment head [ours]; None without one.
    """

    head: Vocabulary | None

    @abstractmethod
    def trunk(self, z: Latents, t: Times, given: Given, decode: Rows | None = None) -> Float[Tensor, "B S width"]:
        """Hidden states; decode is True on rows that shall be read out (default: none)."""

    @abstractmethod
    def mean(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... d"]:
        """The clean guess of hidden states of denoising rows."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"]:
        """The logits of hidden states of decoding rows."""

    @abstractmethod
    def nll(self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Sum of -log p(ids), without an n x V tensor in memory."""

    @abstractmethod
    def decode(self, z: Latents, t: Times, given: Given = Given()) -> Logits:
        """Read tokens out of z."""

    @property
    @abstractmethod
    def repeats(self) -> bool:
        """Whether two passes with the same inputs agree (no dropout is drawn)."""

    def token_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"] | None:
        """The logits of p(token | z_t) of hidden states of denoising rows, float32; None without a head."""
        if self.head is None:
            return None
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden)

    def token_nll(self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Sum of -log p(ids | z_t) of hidden states of denoising rows, without an n x V tensor in memory."""
        assert self.head is not None, "asked only where there is a head"
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head.nll(hidden, ids)
