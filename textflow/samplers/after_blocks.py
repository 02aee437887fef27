"""A net and a codec in the context of one block, the clean blocks before it, or of every block of a text (Cola-DLM,
2605.06548)."""

from typing import cast

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
        self.guidance, self.past, self.x, self.has_pinned = guidance, past, x, bool(pinned.any())

    def forward(self, z: Latents, t: Tensor, cond: Conditioning = Conditioning()) -> Posterior:
        if self.has_pinned:
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
        return self.codec.decode_after(z, self.past)


class AfterText(Denoiser):
    """A net's belief about every block of a text, each after the text's clean blocks before it, guided by them as in
    sampling.

    Args:
        net: net that is causal over blocks.
        path: probability path.
        x: clean latents of the text [B, S, d].
        guidance: scale of the guidance by the blocks before.
    """

    def __init__(self, net: Denoiser, path: ProbPath, x: Latents, guidance: float) -> None:
        super().__init__()
        self.net, self.path, self.dim, self.block_size, self.guidance = net, path, net.dim, net.block_size, guidance
        with torch.inference_mode(False), torch.no_grad():  # a readout's gradient may be taken after them
            x = x.detach().clone()
            self.past = cast(KeyValues, net(x, x.new_full((len(x),), path.t_max)).carry)

    def forward(self, z: Latents, t: Tensor, cond: Conditioning = Conditioning()) -> Posterior:
        z, times = cond.restore_prompt(z), t.reshape(len(t), -1).expand(z.shape[:2])
        pinned = torch.zeros_like(z[..., 0], dtype=torch.bool) if cond.prompt_mask is None else cond.prompt_mask
        means = list[Latents]()
        for part in block_slices(z.shape[1], self.block_size):
            guidance = self.guidance if part.start else 1.0
            net = AfterBlocks(self.net, self.path, pinned[:, part], guidance, first_positions(self.past, part.start))
            means.append(net(z[:, part], times[:, part]).mean)
        return Posterior(torch.cat(means, 1))


class CodecAfterText(Codec):
    """A codec that reads every block of a text's latents after the text's clean blocks before it.

    Args:
        codec: codec of whole rows.
        x: clean latents of the text [B, S, d].
        block_size: latents in a block.
    """

    def __init__(self, codec: Codec, x: Latents, block_size: int | None) -> None:
        super().__init__()
        self.codec, self.vocab_size, self.dim, self.has_decoder = codec, codec.vocab_size, codec.dim, codec.has_decoder
        self.block_size = block_size
        with torch.inference_mode(False), torch.no_grad():
            self.x = x.detach().clone()
            self.past = codec.extend_past(self.x)

    def num_latents(self, length: int) -> int:
        return self.codec.num_latents(length)

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return self.codec.encode(ids, mask)

    def decode_logits(self, z: Latents) -> Logits:
        parts = block_slices(z.shape[1], self.block_size)
        logits = (self.codec.decode_after(z[:, part], first_positions(self.past, part.start)) for part in parts)
        return torch.cat(list(logits), 1)

    def decode_alone(self, z: Latents) -> Logits:
        """Logits of each latent's tokens where all others of its block are the text's, too."""
        logits = list[Logits]()
        for part in block_slices(z.shape[1], self.block_size):
            past, own, text = first_positions(self.past, part.start), z[:, part], self.x[:, part]
            for at in range(own.shape[1]):
                alone = torch.cat([text[:, :at], own[:, at : at + 1], text[:, at + 1 :]], 1)
                logits.append(self.codec.decode_after(alone, past, at))
        return torch.cat(logits, 1)


def block_slices(length: int, size: int | None) -> list[slice]:
    """The blocks of a row of latents."""
    step = size or length
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def first_positions(past: KeyValues | None, count: int) -> KeyValues | None:
    """Keys and values of the first positions of a row; None of none."""
    return None if past is None or not count else tuple(layer[..., :count, :] for layer in past)
