"""Denoiser: a network that predicts clean text from noisy latents."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.transformer import LMHead
from textflow.types import Conditioning, Ids, Latents, Logits, Posterior, RowMask, Times


class Denoiser(nn.Module, ABC):
    """z_t, t -> belief about the text. `dim` is the width of its latents.

    A net that is causal over blocks sets `block_size`, the number of latents that it denoises together: its belief
    carries their keys and values, which `Conditioning.past` gives to the next block.
    """

    dim: int
    block_size: int | None = None
    optional_prefixes: tuple[str, ...] = ("commitment_head.", "end_t_embed.")  # what a student may add to its teacher

    def init_from(self, weights: Mapping[str, Tensor]) -> None:
        """Copy a teacher's weights; optional parts that it lacks are unchanged."""
        own = self.state_dict()
        lacking = [name for name in own if name not in weights and not name.startswith(self.optional_prefixes)]
        wrong = [name for name, tensor in weights.items() if name not in own or own[name].shape != tensor.shape]
        if wrong := lacking + wrong:
            raise ValueError(
                f"a student is initialised from its teacher, but {len(wrong)} weights of {type(self).__name__} have no "
                f"counterpart ({', '.join(wrong[:4])}): give the student the teacher's net; it may only add "
                "commitment_head or two_time"
            )
        self.load_state_dict(weights, strict=False)

    def student_weights(self) -> Mapping[str, Tensor]:
        """The weights that its students start from; default: its own."""
        return self.state_dict()

    @property
    def two_time(self) -> bool:
        """True if it is conditioned on the end of a step."""
        return getattr(self, "end_t_embed", None) is not None

    def use_backend_of(self, other: nn.Module) -> None:  # noqa: B027  most have one backend
        """Use the backend of another net (compilation, fused kernels): a teacher runs as its student does."""

    def sampling_space(self, codec: Codec) -> tuple["Denoiser", Codec]:
        """Net and codec of the latents that samples are drawn in: by default this net, and the codec of its latents. A
        net that sees its latents only through a narrow projection may give the same flow in fewer dimensions."""
        return self, codec

    def belief_logits(self, belief: Posterior) -> Logits | None:
        """Token logits of one of its beliefs [B, L, V]; None where it gives only a mean."""
        return belief.logits

    def belief_ids(self, belief: Posterior) -> Ids | None:
        """The likeliest tokens of one of its beliefs [B, L]; None where it gives only a mean."""
        logits = self.belief_logits(belief)
        return None if logits is None else logits.argmax(-1)

    @abstractmethod
    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior: ...


class DecodingDenoiser(Denoiser, ABC):
    """A denoiser with a second head that decodes tokens from latents (ELF's decode mode). Both share one trunk, so that
    denoising rows and decoding rows share one pass.

    `commitment_head` maps the hidden states of denoising rows to p(token | z_t) [ours]; None without one.
    """

    commitment_head: LMHead | None

    @abstractmethod
    def forward_hidden(
        self, z: Latents, t: Times, cond: Conditioning, decode: RowMask | None = None
    ) -> Float[Tensor, "B S width"]:
        """Hidden states; decode is True on rows in decode mode [B] (default: none)."""

    @abstractmethod
    def predict_x0(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... d"]:
        """The clean prediction from hidden states of denoising rows."""

    def predict_clean(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Latents:
        """The clean prediction from latents of denoising rows [B, S, d], without a commitment head's logits."""
        return self.predict_x0(self.forward_hidden(z, t, cond))

    @abstractmethod
    def lm_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"]:
        """The logits from hidden states of decoding rows."""

    @abstractmethod
    def decode_nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        """Weighted sum of -log p(ids) (default weight: 1), without an n x V tensor in memory."""

    @abstractmethod
    def decode_ids(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Int[Tensor, "B S"]:
        """The likeliest token of each position, without a B x S x V tensor in memory."""

    @abstractmethod
    def decode_logits(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Logits:
        """Token logits of z in decode mode [B, S, V]."""

    @property
    @abstractmethod
    def is_deterministic(self) -> bool:
        """True if two passes with the same inputs agree (no dropout is drawn)."""

    def commitment_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"] | None:
        """The logits of p(token | z_t) of denoising rows' hidden states, float32; None without a head."""
        if self.commitment_head is None:
            return None
        with torch.autocast(hidden.device.type, enabled=False):
            return self.commitment_head(hidden)

    def commitment_nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        """Weighted sum of -log p(ids | z_t), from hidden states of denoising rows."""
        assert self.commitment_head is not None, "called only with a commitment head"
        with torch.autocast(hidden.device.type, enabled=False):
            return self.commitment_head.nll(hidden, ids, weights)
