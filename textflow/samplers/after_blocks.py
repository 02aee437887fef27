"""A net and a codec in the context of one block: the clean blocks before it (Cola-DLM, 2605.06548)."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.codecs import Codec
from textflow.nets import Denoiser
from textflow.paths.base import ProbPath
from textflow.types import AttentionMask, Conditioning, Ids, KeyValues, Latents, Logits, Mask, PositionMask, Posterior


class AfterBlocks(Denoiser):
    """A net's belief about one block after clean ones, guided by them; the block's pinned latents are clean.

    Args:
        net: net that is causal over blocks.
        path: probability path.
        pinned: True on clean latents of the block [B, S].
        guidance: scale of the guidance by the blocks before.
        past: keys and values of the blocks before.
        x: the blocks before, if these are not kept [B, P, d].
    """

    def __init__(
        self,
        net: Denoiser,
        path: ProbPath,
        pinned: PositionMask,
        guidance: float,
        past: KeyValues | None = None,
        x: Float[Tensor, "B P d"] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.dim, self.t_max, self.pinned = net, net.dim, path.t_max, pinned
        self.guidance, self.past, self.x = guidance, past, x

    def forward(self, z: Latents, t: Tensor, cond: Conditioning = Conditioning()) -> Posterior:
        if bool(self.pinned.any()):
            t = t.reshape(len(t), -1).expand(z.shape[:2]).masked_fill(self.pinned, self.t_max)
        mean = self.given(z, t)
        if self.guidance != 1:
            free = self.net(z, t).mean
            mean = free + self.guidance * (mean - free)
        return Posterior(mean)

    def given(self, z: Latents, t: Tensor) -> Latents:
        """E[x | z_t, blocks before]."""
        if self.x is None:
            return self.net(z, t, Conditioning(past=self.past)).mean
        times = torch.cat([z.new_full(self.x.shape[:2], self.t_max), t.reshape(len(t), -1).expand(z.shape[:2])], 1)
        return self.net(torch.cat([self.x, z], 1), times).mean[:, self.x.shape[1] :]


class CodecAfterBlocks(Codec):
    """A codec of one block after others.

    Args:
        codec: codec of whole rows.
        past: the decoder's keys and values of the blocks before.
        ids: their tokens [B, P].
    """

    def __init__(self, codec: Codec, past: KeyValues | None, ids: Ids) -> None:
        super().__init__()
        self.codec, self.vocab_size, self.dim, self.past, self.ids = codec, codec.vocab_size, codec.dim, past, ids

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return self.codec.encode(torch.cat([self.ids, ids], 1))[:, -self.codec.num_latents(ids.shape[1]) :]

    def decode_logits(self, z: Latents) -> Logits:
        return self.codec.decode_next(z, self.past)[0]
