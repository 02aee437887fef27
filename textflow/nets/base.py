"""Denoiser: what learns to guess the text behind noise."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.layers.transformer import Vocabulary
from textflow.types import Given, Latents, Logits, Posterior, Rows, Times


class Denoiser(nn.Module, ABC):
    """z_t, t -> belief about the text. `dim` is the width of its latents."""

    dim: int
    extra: tuple[str, ...] = ("head.", "until.")  # parts that a student may have and its teacher not

    def begin_as(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another; extra parts that it lacks stay as they are.

        Args:
            weights: of a teacher, by name.
        """
        own = self.state_dict()
        lacking = [name for name in own if name not in weights and not name.startswith(self.extra)]
        wrong = [name for name, tensor in weights.items() if name not in own or own[name].shape != tensor.shape]
        if wrong := lacking + wrong:
            raise ValueError(
                f"a student begins as its teacher, but {len(wrong)} weights of {type(self).__name__} have no "
                f"counterpart ({', '.join(wrong[:4])}): give the student the teacher's net; it may only add a head or "
                "spans"
            )
        self.load_state_dict(weights, strict=False)

    def run_as(self, other: nn.Module) -> None:  # noqa: B027  most have one way to run
        """Run by the means of another (compiled, by fused kernels), where both have a choice: a teacher as its student.

        Args:
            other: set up by a recipe.
        """

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
    def nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], each: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        """Sum of -log p(ids), each times how much it counts (default: 1), without an n x V tensor in memory."""

    @abstractmethod
    def tokens(self, z: Latents, t: Times, given: Given = Given()) -> Int[Tensor, "B S"]:
        """The likeliest token of each position of `decode`, without a B x S x V tensor in memory."""

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

    def token_nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], each: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        """`nll` of p(ids | z_t), of hidden states of denoising rows."""
        assert self.head is not None, "asked only where there is a head"
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head.nll(hidden, ids, each)
