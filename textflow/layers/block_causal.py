"""Attention that is bidirectional inside a block and causal across blocks, whose keys and values can be kept (Cola-DLM,
2605.06548)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from textflow.layers.rope import apply_rope_halves, rope
from textflow.layers.transformer import attend

EPS, THETA = 1e-6, 5e5  # of PostNormBlock


def past_length(past: tuple[Tensor, ...] | None) -> int:
    """Number of positions whose keys and values are kept."""
    return past[0].shape[-2] if past else 0


def block_causal_mask(past: int, new: int, block_size: int, device: torch.device) -> Bool[Tensor, "new total"]:
    """True where one of `new` positions after `past` ones (row) attends to a position (column): to its own block and
    those before."""
    block = torch.arange(past + new, device=device) // block_size
    return block[past:, None] >= block[None]


def attend_cached(
    q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "new total"], past: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of new positions to kept and new ones [B, S, h w], and the keys and values of both [B, 2, h, P + S, w].

    Args:
        q: queries [B, h, S, w].
        k: keys [B, h, S, w].
        v: values [B, h, S, w].
        mask: True where a new position attends to a position.
        past: keys and values of earlier positions [B, 2, h, P, w].
    """
    cache = torch.stack([k.to(v.dtype), v], 1)
    cache = cache if past is None else torch.cat([past, cache], -2)
    x = attend(q, cache[:, 0], cache[:, 1], mask)
    return x.transpose(1, 2).flatten(2), cache


class PostNormBlock(nn.Module):
    """norm(x) + attention(x), then x + norm(SwiGLU(x)); queries and keys are normalised over all heads."""

    def __init__(self, width: int, mlp: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attn, self.norm_ffn = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.qkv_proj, self.attn_out_proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.ffn_proj, self.ffn_out = nn.Linear(width, 2 * mlp), nn.Linear(mlp, width)

    def forward(self, x: Tensor, freqs: Tensor, mask: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k, v = self.qkv_proj(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q_norm(q), self.k_norm(k), v))
        mixed, cache = attend_cached(apply_rope_halves(q, freqs), apply_rope_halves(k, freqs), v, mask, past)
        x = self.norm_attn(x) + self.attn_out_proj(mixed)
        value, gate = self.ffn_proj(x).chunk(2, -1)
        return x + self.norm_ffn(self.ffn_out(F.silu(gate) * value)), cache


def run_blocks(
    blocks: nn.ModuleList, x: Tensor, head: int, block_size: int, past: tuple[Tensor, ...] | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Hidden states of positions after those of `past` [B, S, width], and the keys and values of all."""
    before, new = past_length(past), x.shape[1]
    mask, cache = block_causal_mask(before, new, block_size, x.device), list[Tensor]()
    freqs = rope(before + new, head, x, THETA)[before:]
    for i, block in enumerate(blocks):
        x, kv = block(x, freqs, mask, past[i] if past else None)
        cache.append(kv)
    return x, tuple(cache)
