"""The denoiser of Cosmos (2506.21170) and TEncDM (2402.19097): BERT's blocks, the last half joined to the first."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.transformer import ScalarEmbedding, attend
from textflow.nets.base import Denoiser
from textflow.types import Conditioning, Latents, Posterior, Times


class UNetBERT(Denoiser):
    """Noisy latents -> mean. Each block's input gets W_t emb(t) + W_s s, s the self-condition; the input of the first
    block is added to that of the last, of the second to that of the last but one, and so on (TEncDM, released code).

    Times may be [B] or [B, S]. [ours]: linear layers between latents and hidden states, learned positions at the
    input, and times in [0, 1] in the embedding.

    Args:
        codec: codec of the latents.
        width: width of the hidden states.
        depth: number of blocks, even: half of them on each side of the U.
        heads: number of attention heads.
        dropout: dropout rate in each block's branches, in [0, 1).
        max_latents: most latents in a row.
        two_time: whether the net is conditioned on the end of a step too (flow maps).
    """

    def __init__(
        self,
        codec: Codec,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        dropout: float = 0.1,
        max_latents: int = 512,
        two_time: bool = False,
    ) -> None:
        super().__init__()
        if depth < 2 or depth % 2 or width % heads:
            raise ValueError(
                f"UNetBERT got depth {depth}, width {width} and {heads} heads; it needs an even depth of at least 2 "
                "and a width that the heads divide"
            )
        self.dim = codec.dim
        self.latent_in, self.positions = nn.Linear(codec.dim, width), nn.Embedding(max_latents, width)
        self.in_norm, self.drop = nn.LayerNorm(width), nn.Dropout(dropout)
        self.t_embed = ScalarEmbedding(width)
        self.end_t_embed = ScalarEmbedding(width) if two_time else None
        self.blocks = nn.ModuleList(BERTBlock(width, heads, dropout) for _ in range(depth))
        self.time_in = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.self_cond_in = nn.ModuleList(nn.Linear(codec.dim, width) for _ in range(depth))
        self.out = nn.Linear(width, codec.dim)
        self._initialise()

    def _initialise(self) -> None:
        """N(0, 0.02) weights and zero biases, as in BERT."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        if z.shape[1] > self.positions.num_embeddings:
            raise ValueError(
                f"the net UNetBERT got {z.shape[1]} latents, but has max_latents {self.positions.num_embeddings}; raise"
                " --model.net.max_latents"
            )
        z = cond.restore_prompt(z)
        x = self.drop(self.in_norm(self.latent_in(z) + self.positions.weight[: z.shape[1]]))
        hidden = self.run_blocks(x, self.embed_time(t, cond.end_time), cond.self_cond)
        with torch.autocast(z.device.type, enabled=False):
            return Posterior(self.out(hidden.to(self.out.weight.dtype)))

    def embed_time(self, t: Times, end_time: Times | None) -> Float[Tensor, "B ... width"]:
        """Embedding of the time, and of the length of a step to its end; no end is length 0."""
        emb = self.t_embed(t)
        if self.end_t_embed is not None:
            emb = emb + self.end_t_embed(torch.zeros_like(t) if end_time is None else end_time - t)
        return emb if emb.ndim == 3 else emb[:, None]  # [B, width] -> [B, 1, width]

    def run_blocks(
        self, x: Float[Tensor, "B S width"], emb: Float[Tensor, "B _ width"], self_cond: Latents | None
    ) -> Float[Tensor, "B S width"]:
        """Hidden states after the blocks; without a self-condition it is 0."""
        skips, half = list[Tensor](), len(self.blocks) // 2
        for i, block in enumerate(self.blocks):
            if i < half:
                skips.append(x)
            else:
                x = x + skips.pop()
            previous = self.self_cond_in[i].bias if self_cond is None else self.self_cond_in[i](self_cond)
            x = block(x + self.time_in[i](emb) + previous)
        return x


class BERTBlock(nn.Module):
    """norm(x + attention x), then norm(x + MLP x) (BERT, 1810.04805)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm1, self.norm2, self.drop = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B S width"]) -> Float[Tensor, "B S width"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 of [B, h, S, w]
        x = self.norm1(x + self.drop(self.proj(attend(q, k, v).transpose(1, 2).flatten(2))))
        return self.norm2(x + self.drop(self.mlp(x)))
