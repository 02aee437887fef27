"""An autoregressive readout: tokens one after another, given all latents."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.functional import RMSNorm
from textflow.layers.rope import rope
from textflow.layers.transformer import TransformerBlock
from textflow.noise import Noise
from textflow.readouts.base import Readout, View
from textflow.types import Ids, Latents, Logits, Mask


class Autoregressor(Readout):
    """p(ids | x) = prod p(id_i | ids before it, x): a causal transformer after the latents as a prefix.

    It is trained on clean latents together with the denoiser, and draws token after token.

    Args:
        width: width of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        temperature: temperature of the drawn tokens; 0 takes the likeliest.
    """

    trainable = True

    def __init__(self, width: int = 128, depth: int = 2, heads: int = 4, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature < 0:
            raise ValueError(f"temperature = {temperature}: the readout needs one from 0 on")
        self.width, self.temperature, self.head_width = width, temperature, width // heads
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = RMSNorm(width, eps=1e-6)

    def build(self, codec: Codec) -> None:
        self.from_latent = nn.Linear(codec.dim, self.width)
        self.embed = nn.Embedding(codec.vocab_size + 1, self.width)  # the last row begins a text
        self.lm_head = nn.Linear(self.width, codec.vocab_size)

    def logits(self, view: View) -> Logits:
        raise ValueError("the readout Autoregressor has no logits of single positions; use FromNet or FromCodec there")

    def next_logits(self, x: Latents, ids: Ids) -> Logits:
        """Logits of each token given those before it [B, L, V], of ids [B, L]; the last id is not looked at."""
        before = F.pad(ids[:, :-1], (1, 0), value=self.embed.num_embeddings - 1)
        hidden = torch.cat([self.from_latent(x), self.embed(before)], 1)  # [B, S + L, width]
        count, total = x.shape[1], hidden.shape[1]
        index = torch.arange(total, device=x.device)
        mask = (index[:, None] >= index[None]) | (index[None] < count)  # all see the latents, tokens those before
        freqs = rope(total, self.head_width, hidden)
        for block in self.blocks:
            hidden = block(hidden, freqs, mask)
        return self.lm_head(self.norm(hidden[:, count:]))

    def nll(self, view: View, ids: Ids, mask: Mask) -> Tensor:
        logits = self.next_logits(view.belief.mean, ids)
        return F.cross_entropy(logits[mask].float(), ids[mask], reduction="sum") / mask.sum().clamp_min(1)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        x = view.belief.mean
        length = view.codec.num_tokens(x.shape[1])
        ids = torch.zeros(len(x), length, dtype=torch.long, device=x.device)
        for i in range(length):
            ids[:, i] = self.choose(self.next_logits(x, ids[:, : i + 1])[:, -1], noise)
        return ids

    def choose(self, logits: Float[Tensor, "B V"], noise: Noise | None) -> Int[Tensor, " B"]:
        """A token of each row: drawn, or without noise or temperature the likeliest."""
        if self.temperature > 0 and noise is not None:
            return noise.choose(logits, self.temperature)
        return logits.argmax(-1)

    def num_calls(self, length: int) -> int:
        return length

    def fed_ids(self, ids: Ids) -> list[Ids]:
        place = torch.arange(ids.shape[1], device=ids.device)
        return [ids.masked_fill(place >= call, -1) for call in range(ids.shape[1])]  # each sees the tokens before it
