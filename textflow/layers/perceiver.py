"""Attention to another sequence: the blocks of resamplers (Perceiver, 2103.03206; Flamingo, 2204.14198)."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from textflow.layers.rope import apply_rope_halves
from textflow.layers.transformer import attend

Rotation: TypeAlias = Complex[Tensor, "S half"]  # of positions, as `rope` gives it


class CrossAttention(nn.Module):
    """Queries of one sequence attend to keys and values of another.

    Args:
        width: width of the queries' sequence, a multiple of `heads`.
        heads: number of attention heads.
        context_width: width of the other sequence; default: `width`.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} and {heads} heads: each head needs a whole number of channels")
        self.heads = heads
        self.q, self.kv = nn.Linear(width, width), nn.Linear(context_width or width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "B Q width"],
        context: Float[Tensor, "B K context_width"],
        mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B Q width"]:
        """mask is True on keys that are attended to; default: all."""
        return self.attend_to(x, self.keys_values(context), mask)

    def keys_values(
        self, context: Float[Tensor, "B K context_width"], freqs: Rotation | None = None
    ) -> Float[Tensor, "2 B h K w"]:
        """Keys, rotated by `freqs` if given, and values of the other sequence."""
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 2 of [B, h, K, w]
        return torch.stack([k if freqs is None else apply_rope_halves(k, freqs), v])

    def attend_to(
        self,
        x: Float[Tensor, "B Q width"],
        keys_values: Float[Tensor, "2 B h K w"],
        mask: Bool[Tensor, "B K"] | None = None,
        freqs: Rotation | None = None,
    ) -> Float[Tensor, "B Q width"]:
        """Attention of the queries, rotated by `freqs` if given, to `keys_values`."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, h, Q, w]
        q = q if freqs is None else apply_rope_halves(q, freqs)
        k, v = keys_values.unbind(0)
        keys = None if mask is None else mask[:, None, None].expand(-1, 1, q.shape[2], -1)
        return self.proj(attend(q, k, v, keys).transpose(1, 2).flatten(2))


class PerceiverBlock(nn.Module):
    """x + attention(norm x to norm [context, x]), then x + MLP(norm x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.context_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = CrossAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self,
        x: Float[Tensor, "B Q width"],
        context: Float[Tensor, "B K width"],
        mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B Q width"]:
        """mask is True on positions of the context that are attended to; default: all."""
        own = self.norm(x)
        keys = None if mask is None else F.pad(mask, (0, x.shape[1]), value=True)
        x = x + self.attn(own, torch.cat([self.context_norm(context), own], 1), keys)
        return x + self.mlp(self.mlp_norm(x))
