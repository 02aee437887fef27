"""Layers of the transformers: attention with rotary positions, SwiGLU, the block, scalar embeddings, the vocabulary."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn


def rotary(length: int, width: int, like: Tensor, theta: float = 1e4) -> Complex[Tensor, "length half"]:
    """Rotation of each position and pair of coordinates (RoPE), as unit complex numbers [length, width / 2].

    Args:
        length: number of positions.
        width: of a head.
        like: its device and precision.
        theta: slowest wavelength over 2 pi.
    """
    real = torch.float64 if like.dtype == torch.float64 else torch.float32
    speed = theta ** (-torch.arange(0, width, 2, device=like.device, dtype=real) / width)
    angle = torch.outer(torch.arange(length, device=like.device, dtype=real), speed)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate the pairs (0, 1), (2, 3) ... of the last axis; positions before the last len(turn) stay as they are."""
    free = x.shape[-2] - len(turn)
    pairs = torch.view_as_complex(x[..., free:, :].to(turn.real.dtype).unflatten(-1, (-1, 2)))
    return torch.cat([x[..., :free, :], torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)], -2)


class Attention(nn.Module):
    """Bidirectional attention; queries and keys are RMS-normalised a head and then rotated."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} and {heads} heads: each head needs an even whole number of channels")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, N, 3 w] -> 3 [B, h, N, w/h]
        q, k = rotate(self.q_norm(q), turn), rotate(self.k_norm(k), turn)
        kind = torch.float32 if x.is_cpu and v.dtype == torch.bfloat16 else v.dtype  # a CPU's bf16 kernel is slower
        with torch.autocast(x.device.type, enabled=False):
            x = F.scaled_dot_product_attention(
                q.to(kind), k.to(kind), v.to(kind), mask, self.dropout if self.training else 0.0
            )
        return self.proj(x.transpose(1, 2).flatten(2))


class _Gate(torch.autograd.Function):
    """silu(a) b of (a, b) side by side; keeps its input alone for the way back."""

    @staticmethod
    def forward(ctx: Any, ab: Tensor) -> Tensor:
        ctx.save_for_backward(ab)
        a, b = ab.chunk(2, -1)
        return F.silu(a).mul_(b)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        a, b = ctx.saved_tensors[0].chunk(2, -1)
        share = torch.sigmoid(a)
        smooth = a * share
        slope = torch.addcmul(share, smooth, 1 - share)  # d silu(a) / da
        return torch.cat([slope.mul_(b).mul_(outer[0]), smooth.mul_(outer[0])], -1)


class SwiGLU(nn.Module):
    """W3 (silu(a) b), (a, b) = W12 x."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(_Gate.apply(self.w12(x)))


class Block(nn.Module):
    """x + attention(norm x), then x + SwiGLU(norm x)."""

    def __init__(self, width: int, heads: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, dropout)
        self.mlp = SwiGLU(width, hidden or int(4 * width * 2 / 3))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x), turn, mask))
        return x + self.drop(self.mlp(self.norm2(x)))


class Scalar(nn.Module):
    """A number as a few tokens: learned tokens + MLP(its 256 sinusoids, cosines first)."""

    def __init__(self, width: int, tokens: int, waves: int = 256) -> None:
        super().__init__()
        self.waves = waves
        self.tokens = nn.Parameter(torch.zeros(1, tokens, width))
        self.mlp = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Float[Tensor, " B"]) -> Float[Tensor, "B tokens width"]:
        half = self.waves // 2
        speed = torch.exp(-math.log(1e4) * torch.arange(half, device=value.device, dtype=value.dtype) / half)
        angle = value[:, None] * speed
        return self.tokens + self.mlp(torch.cat([angle.cos(), angle.sin()], -1))[:, None]


class Vocabulary(nn.Module):
    """Logits = W2 gelu(W1 h + b1) + b2, width -> dim -> vocab."""

    def __init__(self, width: int, dim: int, vocab: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, dim), nn.Linear(dim, vocab)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.up(self._features(hidden))

    def nll(self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Sum of -log p(ids), in chunks of rows."""
        return linear_nll(self._features(hidden), self.up.weight, self.up.bias, ids)

    def _features(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.down(hidden), approximate="tanh")


class _LinearNLL(torch.autograd.Function):
    """Cross-entropy of a linear layer whose gradient is taken chunk by chunk on the way forward."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, rows: int, train: bool) -> Tensor:
        total = h.new_zeros(())
        grads = [torch.zeros_like(p) for p in (h, weight, bias)] if train else []
        for i in range(0, len(h), rows):
            part, at = h[i : i + rows], ids[i : i + rows, None]
            logits = torch.addmm(bias, part, weight.T)
            level = logits.logsumexp(-1, keepdim=True)
            total += (level - logits.gather(1, at)).sum()
            if train:
                slope = logits.sub_(level).exp_().scatter_add_(1, at, -torch.ones_like(level))  # softmax - one-hot
                torch.mm(slope, weight, out=grads[0][i : i + rows])
                grads[1].addmm_(slope.T, part)
                grads[2].add_(slope.sum(0))
        ctx.grads = grads
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        grads, ctx.grads = ctx.grads, None  # scaled in place: no second copy of a vocabulary's gradient
        return *(grad.mul_(outer[0]) for grad in grads), None, None, None


def linear_nll(h: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, budget: int = 2**22) -> Float[Tensor, ""]:
    """Sum of -log softmax(h W^T + b)[ids] with at most `budget` logits in memory at once.

    Args:
        h: features [n, d].
        weight: [V, d].
        bias: [V].
        ids: [n].
        budget: number of logits of a chunk.
    """
    rows = max(budget // len(weight), 1)
    return _LinearNLL.apply(h, weight, bias, ids, rows, torch.is_grad_enabled())
