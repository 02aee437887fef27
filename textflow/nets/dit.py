"""The transformer of FLM, FMLM and MDLM: what is behind noisy one-hot tokens, told by its modulated norms what time it
is."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from textflow.layers.frozen import Frozen
from textflow.layers.transformer import rotary
from textflow.nets.base import Denoiser
from textflow.paths.base import Path, column
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Logits, Posterior, Times


class DiT(Denoiser):
    """Noisy one-hot tokens -> p(token | z_t), which is both mean and logits (FLM, 2602.16813; DiT, 2212.09748).

    Args:
        dim: width of the latents, the number of tokens (from the codec).
        vocab: number of tokens (from the tokenizer).
        width: of the hidden states.
        depth: number of blocks.
        heads: of attention.
        cond: width of what the norms are told.
        spans: whether it is told the end of a step too (flow maps).
        attention_cap: attention logits become cap tanh(logits / cap) (FLM: 50; MDLM: none).
        logit_cap: the same for token logits (FMLM: 30).
        dropout: of each block's branches, in [0, 1).
        weighting: whether it learns how much each time weighs in a loss (FLM, stage 1).
        clock: it is told the share of this law before t (FLM: the decode-error clock); default: t itself.
    """

    def __init__(
        self,
        dim: int,
        vocab: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        cond: int = 128,
        spans: bool = False,
        attention_cap: float | None = 50.0,
        logit_cap: float | None = None,
        dropout: float = 0.0,
        weighting: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        if dim != vocab:
            raise ValueError(
                f"DiT denoises one-hot latents, as wide as there are tokens, but got width {dim} and {vocab} tokens; "
                "choose a one-hot codec"
            )
        self.dim, self.head_width, self.logit_cap, self.clock = dim, width // heads, logit_cap, clock
        self.table = nn.Parameter(torch.empty(dim, width))
        self.time = Clockwork(cond)
        self.until = Clockwork(cond) if spans else None
        self.weighting = Weighting(cond) if weighting else None
        self.blocks = nn.ModuleList(Block(width, heads, cond, attention_cap, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)
        self.out_tell = nn.Linear(cond, 2 * width)
        self.out = nn.Linear(width, vocab)
        self._initialise()

    def _initialise(self) -> None:
        """Uniform table; what tells a norm, and the way out, start at zero."""
        nn.init.kaiming_uniform_(self.table, a=math.sqrt(5))
        tells = [block.tell for block in self.modules() if isinstance(block, Block)]
        for module in (self.out_tell, self.out, *tells):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, z: Latents, t: Times, given: Given = Given()) -> Posterior:
        logits = self.raw(z, t, given)
        return Posterior(logits.softmax(-1), logits.log_softmax(-1))

    def raw(self, z: Latents, t: Times, given: Given = Given()) -> Logits:
        """What the way out says, before it is made a law of tokens."""
        told = self.time(self._told(t))
        if self.until is not None:
            told = told + self.until(self._told(t if given.until is None else given.until))  # no end: no length
        hidden = self.trunk(z @ self.table, told)
        with torch.autocast(z.device.type, enabled=False):  # the way out stays in float32
            logits = self.out(hidden.to(self.out.weight.dtype))
        return logits if self.logit_cap is None else capped(logits, self.logit_cap)

    def expected(self, t: Times) -> Times | None:
        """Logarithm of the error to be expected at t, where it learns that."""
        return None if self.weighting is None else self.weighting(self._told(t))

    def trunk(self, x: Float[Tensor, "B S width"], told: Float[Tensor, "B cond"]) -> Float[Tensor, "B S width"]:
        """Hidden states, ready to be read.

        Args:
            x: embedded tokens.
            told: the embedded time, before its activation.
        """
        told = F.silu(told)
        turn = rotary(x.shape[1], self.head_width, told)
        for block in self.blocks:
            x = block(x, told, turn)
        shift, scale = self.out_tell(told)[:, None].chunk(2, -1)
        return self.norm(x) * (1 + scale) + shift

    def _told(self, t: Times) -> Times:
        return t if self.clock is None else cdf(self.clock, t)


class Residual(Denoiser):
    """D(z; s, u) = D_s + (u - s) / 2 (1 - s) g(z; s, u): a teacher's guess D_s and a learned bend (FMLM in two stages:
    the first; its flow map is z + (u - s) v + (u - s)^2 / 2 g).

    Args:
        teacher: is told s alone.
        net: g is its raw way out.
        path: of both.
    """

    def __init__(self, teacher: Denoiser, net: DiT, path: Path) -> None:
        super().__init__()
        self.teacher, self.net, self.path, self.dim = Frozen(teacher), net, path, net.dim

    def forward(self, z: Latents, t: Times, given: Given = Given()) -> Posterior:
        with torch.no_grad():
            guess = self.teacher(z, t, given._replace(until=None)).mean
        if given.until is None:
            return Posterior(guess)
        zero = torch.zeros_like(z)
        rest = 1 / self.path.velocity(zero, zero + 1, t)  # 1 - s on the straight path
        return Posterior(guess + column(given.until - t, z) / 2 * rest * self.net.raw(z, t, given))

    def expected(self, t: Times) -> Times | None:
        """As the net's."""
        return self.net.expected(t)


class Block(nn.Module):
    """x + gate attention(told norm x), then x + gate MLP(told norm x); shift, scale and gate come from the time."""

    def __init__(self, width: int, heads: int, cond: int, cap: float | None, dropout: float) -> None:
        super().__init__()
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} and {heads} heads: each head needs an even whole number of channels")
        self.heads, self.cap = heads, cap
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.tell = nn.Linear(cond, 6 * width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, told: Tensor, turn: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.tell(told)[:, None].chunk(6, -1)
        x = x + gate1 * self.drop(self.attend(self.norm1(x) * (1 + scale1) + shift1, turn))
        return x + gate2 * self.drop(self.mlp(self.norm2(x) * (1 + scale2) + shift2))

    def attend(self, x: Tensor, turn: Tensor) -> Tensor:
        """Bidirectional attention with rotary positions."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 of [B, h, S, w / h]
        q, k = halves(q, turn), halves(k, turn)
        if self.cap is None:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = capped(q @ k.mT / q.shape[-1] ** 0.5, self.cap).softmax(-1).to(v.dtype) @ v
        return self.proj(x.transpose(1, 2).flatten(2))


class Clockwork(nn.Module):
    """A time as a vector: MLP(its 256 sinusoids, cosines first)."""

    def __init__(self, width: int, waves: int = 256) -> None:
        super().__init__()
        self.waves = waves
        self.mlp = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Times) -> Float[Tensor, "B width"]:
        half = self.waves // 2
        speed = torch.exp(-math.log(1e4) * torch.arange(half, device=t.device, dtype=t.dtype) / half)
        angle = t[:, None] * speed
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1))


class Weighting(nn.Module):
    """w(t), the logarithm of the error to be expected at t: a loss is exp(-w) error + w (EDM2, 2312.02696)."""

    def __init__(self, cond: int, hidden: int = 128) -> None:
        super().__init__()
        self.time = Clockwork(cond)
        self.mlp = nn.Sequential(nn.Linear(cond, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, t: Times) -> Times:
        return self.mlp(self.time(t))[:, 0]


def cdf(clock: Clock, t: Tensor) -> Tensor:
    """Share of a law of time before t, by bisection of its quantiles; it has derivatives of first order in t."""
    with torch.no_grad():
        at = t.detach().double()
        low, high = torch.zeros_like(at), torch.ones_like(at)
        for _ in range(40):
            middle = (low + high) / 2
            before = clock.icdf(middle) < at
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        left, right = (low - 1e-4).clamp_min(0), (high + 1e-4).clamp_max(1)
        slope = (right - left) / (clock.icdf(right) - clock.icdf(left)).clamp_min(1e-9)
    return (high + slope * (t.double() - at)).to(t.dtype)


def capped(logits: Tensor, cap: float) -> Tensor:
    """cap tanh(logits / cap)."""
    return cap * torch.tanh(logits / cap)


def halves(x: Tensor, turn: Complex[Tensor, "S half"]) -> Tensor:
    """Rotate the pairs (i, i + w / 2) of the last axis."""
    a, b = x.chunk(2, -1)
    cos, sin = turn.real, turn.imag
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)
