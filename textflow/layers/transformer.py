"""Layers of the transformers: attention, SwiGLU, the block, scalar embeddings, the LM head."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.layers.functional import RMSNorm, linear_nll, swiglu_out
from textflow.layers.kernels import Kernels, cuda, fused_swiglu_out
from textflow.layers.rope import apply_rope_interleaved


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention in the precision of the values; on a CPU in float32 in place of bfloat16, whose
    kernel is 6 times slower in the backward pass of short texts.

    Args:
        q: queries [B, h, S, w].
        k: keys [B, h, T, w].
        v: values [B, h, T, w].
        mask: True where a query attends to a key [S, T] or [B, h, S, T]; default: everywhere.
        dropout: dropout rate of the attention weights, in [0, 1).
    """
    kind = torch.float32 if v.is_cpu and v.dtype == torch.bfloat16 else v.dtype
    with torch.autocast(v.device.type, enabled=False):
        return F.scaled_dot_product_attention(q.to(kind), k.to(kind), v.to(kind), mask, dropout)


class Attention(nn.Module):
    """Bidirectional attention; queries and keys are RMS-normalised per head and then rotated."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; needs a rate in [0, 1)")
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} and {heads} heads: each head needs an even whole number of channels")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = RMSNorm(width // heads, eps=1e-6)
        self.k_norm = RMSNorm(width // heads, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, freqs: Tensor, mask: Tensor | None = None) -> Tensor:
        qkv = self.qkv(x).view(*x.shape[:2], 3, self.heads, self.q_norm.weight.numel())
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # 3 of [B, h, N, w / h]
        q, k = apply_rope_interleaved(self.q_norm(q), freqs), apply_rope_interleaved(self.k_norm(k), freqs)
        x = attend(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.proj(x.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """W3 (silu(a) b), (a, b) = W12 x."""

    kernels: Kernels = "torch"

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        ab = self.w12(x)
        last = fused_swiglu_out if self.kernels == "liger" and cuda(ab) else swiglu_out
        return last(ab, self.w3.weight, self.w3.bias)


class TransformerBlock(nn.Module):
    """x + attention(norm x), then x + SwiGLU(norm x)."""

    def __init__(self, width: int, heads: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width, eps=1e-6), RMSNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, dropout)
        self.mlp = SwiGLU(width, hidden or int(4 * width * 2 / 3))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, freqs: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x), freqs, mask))
        return x + self.drop(self.mlp(self.norm2(x)))


class ScalarEmbedding(nn.Module):
    """A scalar as a vector: MLP(sinusoids of the scalar, cosines first)."""

    def __init__(self, width: int, num_frequencies: int = 256) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.mlp = nn.Sequential(nn.Linear(num_frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Float[Tensor, "B ..."]) -> Float[Tensor, "B ... width"]:
        half = self.num_frequencies // 2
        speed = torch.exp(-math.log(1e4) * torch.arange(half, device=value.device, dtype=value.dtype) / half)
        angle = value[..., None] * speed
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1))


class ScalarTokens(ScalarEmbedding):
    """A scalar as a few tokens: learned tokens + its embedding."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__(width)
        self.tokens = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, value: Float[Tensor, " B"]) -> Float[Tensor, "B tokens width"]:
        return self.tokens + super().forward(value)[:, None]


class LMHead(nn.Module):
    """Logits = W2 gelu(W1 h + b1) + b2, width -> dim -> vocab."""

    def __init__(self, width: int, dim: int, vocab: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, dim), nn.Linear(dim, vocab)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.up(self._features(hidden))

    def nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        """Weighted sum of -log p(ids), in chunks of rows."""
        return linear_nll(self._features(hidden), self.up.weight, self.up.bias, ids, weights=weights)

    def argmax(self, hidden: Float[Tensor, "... width"], budget: int = 2**22) -> Int[Tensor, "..."]:
        """The likeliest tokens, with at most `budget` logits in memory at once."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        parts = flat.split(max(budget // self.up.out_features, 1))  # type: ignore[no-untyped-call]
        return torch.cat([self(part).argmax(-1) for part in parts]).view(hidden.shape[:-1])

    def _features(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.down(hidden), approximate="tanh")
