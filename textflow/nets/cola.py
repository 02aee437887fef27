"""The prior of Cola-DLM: a diffusion transformer that is causal over blocks of latents (2605.06548)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.block_causal import attend_cached, block_causal_mask, past_length
from textflow.layers.rope import apply_rope_interleaved, rope
from textflow.nets.base import Denoiser
from textflow.paths.base import broadcast_time
from textflow.types import Conditioning, KeyValues, Latents, Posterior, Times

EPS = 1e-5
FREQUENCIES = 256  # of the time embedding
TIME_SCALE = 1000.0  # the network receives 1000 (1 - t)


class ColaDiT(Denoiser):
    """Blocks of noisy latents, each after the clean blocks before it -> velocity and mean (Cola-DLM, sec. 3.3).

    A block attends to itself and to the blocks before; a clean latent has t = 1. Times may be [B] or [B, S]. The mean
    is that of a straight path, z + (1 - t) v.

    Args:
        codec: codec of the latents.
        width: width of the hidden states.
        depth: number of blocks of layers.
        heads: number of attention heads.
        head_width: channels of a head, even; default: width / heads.
        mlp_width: hidden width of the MLP; default: 4 width.
        rope_width: first channels of a head that are rotated, even; default: 3/4 of the head.
        cond_width: width of the time embedding; default: width.
        time_width: hidden width of its MLP; default: width.
        block_size: latents that are denoised together, >= 1.
    """

    block_size: int

    def __init__(
        self,
        codec: Codec,
        width: int = 2048,
        depth: int = 24,
        heads: int = 16,
        head_width: int | None = None,
        mlp_width: int | None = None,
        rope_width: int | None = None,
        cond_width: int | None = None,
        time_width: int | None = None,
        block_size: int = 16,
    ) -> None:
        super().__init__()
        head = head_width or width // heads
        self.rope_width = head * 3 // 8 * 2 if rope_width is None else rope_width
        if head < 1 or head % 2 or self.rope_width % 2 or not 0 < self.rope_width <= head or block_size < 1:
            raise ValueError(
                f"ColaDiT got heads of {head} channels, {self.rope_width} of them rotated, and block_size {block_size};"
                " it needs even numbers above 0, and a block of at least 1"
            )
        self.dim, self.block_size, cond = codec.dim, block_size, cond_width or width
        self.latent_in = nn.Linear(codec.dim, width)
        self.t_embed = TimeEmbedding(time_width or width, cond)
        self.blocks = nn.ModuleList(ColaBlock(width, heads, head, mlp_width or 4 * width, cond) for _ in range(depth))
        self.norm, self.out_modulation = nn.LayerNorm(width, EPS), nn.Linear(cond, 2 * width)
        self.out = nn.Linear(width, codec.dim)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier weights, N(0, 0.02) in the time embedding; zero biases, modulations and output (released code)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if name.startswith("t_embed."):
                    nn.init.normal_(module.weight, std=0.02)
                elif name == "out" or "modulation" in name:
                    nn.init.zeros_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        """The belief about blocks after those of `cond.past`; it carries the keys and values of all."""
        z = cond.restore_prompt(z)
        if cond.prompt_mask is not None:
            t = broadcast_time(t, z)[..., 0].expand(z.shape[:2]).masked_fill(cond.prompt_mask, 1.0)
        before, new = past_length(cond.past), z.shape[1]
        mask = block_causal_mask(before, new, self.block_size, z.device)
        v, cache = self.velocity(z, t, rope(before + new, self.rope_width, z)[before:], mask, cond.past)
        return Posterior(z + (1 - broadcast_time(t, z)) * v, carry=cache)

    def velocity_after(self, x: Latents, z: Latents, t: Times) -> Latents:
        """dz/dt of every block of z given the clean blocks of x before it, in one pass over [x | z] (training).

        Args:
            x: clean latents [B, S, d].
            z: noisy latents [B, S, d].
            t: times of z, one a position [B, S].
        """
        count = z.shape[1]
        block = torch.arange(count, device=z.device) // self.block_size
        before, own = block[:, None] > block, block[:, None] == block
        mask = torch.cat([torch.cat([before | own, torch.zeros_like(own)], 1), torch.cat([before, own], 1)])
        freqs = rope(count, self.rope_width, z).repeat(2, 1)
        v, _ = self.velocity(torch.cat([x, z], 1), torch.cat([torch.ones_like(t), t], 1), freqs, mask)
        return v[:, count:]

    def velocity(
        self, z: Latents, t: Times, freqs: Tensor, mask: Tensor, past: KeyValues | None = None
    ) -> tuple[Latents, KeyValues]:
        """dz/dt = x - eps, and the keys and values of past and new positions."""
        c = F.silu(self.t_embed(TIME_SCALE * (1 - broadcast_time(t, z)[..., 0])))  # [B, 1 or S, cond]
        x, cache = self.latent_in(z), list[Tensor]()
        for i, block in enumerate(self.blocks):
            x, kv = block(x, c, freqs, mask, past[i] if past else None)
            cache.append(kv)
        x = modulated(self.norm(x), self.out_modulation(c))
        return -self.out(x).float(), tuple(cache)  # the network's own is eps - x


class TimeEmbedding(nn.Module):
    """MLP(sinusoids of a time, sines first)."""

    def __init__(self, width: int, cond: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, cond)
        )

    def forward(self, time: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        speed = torch.exp(-math.log(1e4) * torch.arange(half, device=time.device, dtype=time.dtype) / half)
        angle = time[..., None] * speed
        return self.mlp(torch.cat([angle.sin(), angle.cos()], -1))


class ColaBlock(nn.Module):
    """x + gate attention(modulated norm x), then x + gate MLP(modulated norm x); modulations depend on each time."""

    def __init__(self, width: int, heads: int, head: int, mlp_width: int, cond: int) -> None:
        super().__init__()
        self.attn = ColaAttention(width, heads, head)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU("tanh"), nn.Linear(mlp_width, width))
        self.norm = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.attn_modulation, self.attn_gate_modulation = nn.Linear(cond, 2 * width), nn.Linear(cond, width)
        self.mlp_modulation, self.mlp_gate_modulation = nn.Linear(cond, 2 * width), nn.Linear(cond, width)

    def forward(self, x: Tensor, c: Tensor, freqs: Tensor, mask: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed, cache = self.attn(modulated(self.norm(x), self.attn_modulation(c)), freqs, mask, past)
        x = x + self.attn_gate_modulation(c) * mixed
        return x + self.mlp_gate_modulation(c) * self.mlp(modulated(self.norm(x), self.mlp_modulation(c))), cache


class ColaAttention(nn.Module):
    """Attention with a LayerNorm of each head's queries and keys, whose first channels are rotated."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * heads * head, bias=False), nn.Linear(heads * head, width, bias=False)
        self.q_norm, self.k_norm = nn.LayerNorm(head, EPS), nn.LayerNorm(head, EPS)

    def forward(self, x: Tensor, freqs: Tensor, mask: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 of [B, h, S, w]
        mixed, cache = attend_cached(rotate(self.q_norm(q), freqs), rotate(self.k_norm(k), freqs), v, mask, past)
        return self.proj(mixed), cache


def rotate(x: Tensor, freqs: Tensor) -> Tensor:
    """The first channels of queries or keys rotated, in pairs (0, 1), (2, 3) ...; the others as they are."""
    width = 2 * freqs.shape[-1]
    return torch.cat([apply_rope_interleaved(x[..., :width], freqs), x[..., width:]], -1)


def modulated(x: Tensor, modulation: Tensor) -> Tensor:
    """x (1 + scale) + shift."""
    shift, scale = modulation.chunk(2, -1)
    return x * (1 + scale) + shift
