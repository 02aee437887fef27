"""The diffusion transformer of FLM, FMLM and MDLM: adaptive layer norms depend on time."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.codecs import Codec, OneHot, ProjectedOneHot
from textflow.layers.frozen import Frozen
from textflow.layers.functional import RMSNorm, linear_nll
from textflow.layers.gelu import gelu_out
from textflow.layers.rope import apply_rope_halves, rope
from textflow.layers.short_conv import ShortConv
from textflow.layers.transformer import ScalarEmbedding, attend
from textflow.nets.base import Denoiser
from textflow.schedules.base import TimeSchedule
from textflow.types import Conditioning, Ids, Latents, Logits, Posterior, Times


class DiT(Denoiser):
    """Noisy latents -> p(token | z_t) and the mean under it (FLM, 2602.16813; DiT, 2212.09748).

    Times may be [B] or [B, S].

    Args:
        codec: codec of the latents; OneHot or EmbeddingTable.
        width: width of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        cond_width: width of the time embedding that modulates the norms.
        two_time: whether the net is conditioned on the end of a step too (flow maps).
        attention_softcap: attention logits become cap tanh(logits / cap) (FLM: 50; MDLM: none).
        logit_softcap: token logits become cap tanh(logits / cap) (FMLM: 30).
        dropout: dropout rate in each block's branches, in [0, 1).
        loss_weighting: whether the net learns the loss weight of each time (FLM, stage 1).
        time_schedule: schedule whose CDF at t is the input time (FLM: DecodeError); default: t itself.
        qk_norm: whether queries and keys are RMS-normalised per head, as in ELF (2302.05442). A small net learns much
            earlier which word of a text another one repeats [ours].
        conv_width: number of positions of a depthwise convolution before each attention, odd; None: no convolution.
            A key then contains its neighbours, by which a later word finds the one that it repeats [ours].
    """

    optional_prefixes = (*Denoiser.optional_prefixes, "loss_weighting.")

    def __init__(
        self,
        codec: Codec,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        cond_width: int = 128,
        two_time: bool = False,
        attention_softcap: float | None = 50.0,
        logit_softcap: float | None = None,
        dropout: float = 0.0,
        loss_weighting: bool = False,
        time_schedule: TimeSchedule | None = None,
        qk_norm: bool = False,
        conv_width: int | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.vocab_size, self.head_width = codec.dim, codec.vocab_size, width // heads
        self.logit_softcap, self.time_schedule = logit_softcap, time_schedule
        self.codec = codec if codec.trainable else Frozen(codec)
        self._space: tuple[object, TableSpaceDiT] | None = None
        self.embed = nn.Parameter(torch.empty(codec.dim, width))
        self.t_embed = ScalarEmbedding(cond_width)
        self.end_t_embed = ScalarEmbedding(cond_width) if two_time else None
        self.loss_weighting = LossWeighting(cond_width) if loss_weighting else None
        block = (width, heads, cond_width, attention_softcap, dropout, qk_norm, conv_width)
        self.blocks = nn.ModuleList(DiTBlock(*block) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)
        self.out_modulation = nn.Linear(cond_width, 2 * width)
        self.out = nn.Linear(width, codec.vocab_size)
        self._initialise()

    def _initialise(self) -> None:
        """Uniform embeddings; zero modulations and output layers."""
        nn.init.kaiming_uniform_(self.embed, a=math.sqrt(5))
        modulations = [block.adaLN_modulation for block in self.modules() if isinstance(block, DiTBlock)]
        for module in (self.out_modulation, self.out, *modulations):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        logits = self.forward_logits(z, t, cond)
        return Posterior(self.expected(logits.softmax(-1)), logits.log_softmax(-1))

    def train(self, mode: bool = True) -> "DiT":
        """Set the training mode; a change of it leaves the table's space, since FSDP's weights change unseen."""
        if self.training != mode:
            self._space = None
        super().train(mode)
        return self

    @property
    def token_codec(self) -> Codec:
        """The codec of its latents."""
        codec = self.codec.module if isinstance(self.codec, Frozen) else self.codec
        assert isinstance(codec, Codec)
        return codec

    def expected(self, probs: Logits) -> Latents:
        """E[x] under the probabilities of tokens."""
        return self.token_codec.expected_latents(probs)

    def forward_logits(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Logits:
        """Token logits before the softmax [B, S, V]."""
        return self.token_logits(self.forward_hidden(z @ self.embed, t, cond))

    def of_table(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of the table `embed`; called here, so that an engine has gathered it."""
        return function(self.embed)

    def forward_hidden(
        self, x: Float[Tensor, "B S width"], t: Times, cond: Conditioning = Conditioning()
    ) -> Float[Tensor, "B S width"]:
        """Hidden states for the output layer, of embedded latents, z @ embed."""
        time = self._schedule_time(t)
        t_emb = self.t_embed(time)
        if self.end_t_embed is not None:  # no end: length 0
            t_emb = t_emb + self.end_t_embed(time if cond.end_time is None else self._schedule_time(cond.end_time))
        return self.run_blocks(x, t_emb)

    def token_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"]:
        """Token logits of hidden states, float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.out(hidden.to(self.out.weight.dtype))
        return logits if self.logit_softcap is None else softcap(logits, self.logit_softcap)

    def decode_nll(self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Sum of -log p(ids), without an n x V tensor in memory."""
        with torch.autocast(hidden.device.type, enabled=False):
            out = self.out
            return linear_nll(hidden.to(out.weight.dtype), out.weight, out.bias, ids, cap=self.logit_softcap)

    def sampling_space(self, codec: Codec) -> tuple[Denoiser, Codec]:
        """The table's space for one-hot latents that are wider; it is kept until the weights change."""
        if not isinstance(codec, OneHot) or codec.dim <= self.embed.shape[1]:
            return self, codec
        state = (id(self.embed), self.embed._version, self.embed.device)
        if self._space is None or self._space[0] != state:
            self._space = state, TableSpaceDiT(self)
        return self._space[1], self._space[1].codec

    def log_expected_error(self, t: Times) -> Times | None:
        """Logarithm of the expected error at t; None without loss_weighting."""
        return None if self.loss_weighting is None else self.loss_weighting(self._schedule_time(t))

    def run_blocks(
        self,
        x: Float[Tensor, "B S width"],
        t_emb: Float[Tensor, "B ... cond"],
        before: Callable[[int, Tensor], Tensor] = lambda number, x: x,
    ) -> Float[Tensor, "B S width"]:
        """Hidden states for the output layer, of embedded tokens and a time embedding before its activation; `before`
        maps the number of a block and its input to the input that it gets."""
        t_emb = F.silu(t_emb)
        freqs = rope(x.shape[1], self.head_width, t_emb)
        for number, block in enumerate(self.blocks):
            x = block(before(number, x), t_emb, freqs)
        shift, scale = per_position(self.out_modulation(t_emb)).chunk(2, -1)
        return self.norm(x) * (1 + scale) + shift

    def _schedule_time(self, t: Times) -> Times:
        return t if self.time_schedule is None else schedule_cdf(self.time_schedule, t)


class TableSpaceDiT(Denoiser):
    """A DiT of one-hot latents z that is given z Q, where its table is E = Q R: z E = (z Q) R, noise stays white, and
    steps along straight lines close, so that no state is as wide as the vocabulary.

    The belief carries hidden states in place of logits.

    Args:
        net: DiT whose codec is OneHot.
    """

    def __init__(self, net: DiT) -> None:
        super().__init__()
        basis, factor = torch.linalg.qr(net.embed.detach())
        self._net, self.factor, self.codec, self.dim = (net,), factor, ProjectedOneHot(basis), basis.shape[1]

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        net = self._net[0]
        with torch.autocast(z.device.type, enabled=False):
            x = z @ self.factor
        hidden = net.forward_hidden(x, t, cond)
        parts = [
            net.token_logits(part).softmax(-1) @ self.codec.basis for part in position_chunks(hidden, net.vocab_size)
        ]
        return Posterior(torch.cat(parts).view(*z.shape[:-1], -1), carry=hidden)

    def belief_logits(self, belief: Posterior) -> Logits | None:
        return self._net[0].token_logits(belief.carry) if isinstance(belief.carry, Tensor) else belief.logits

    def belief_ids(self, belief: Posterior) -> Ids | None:
        """The likeliest tokens, in chunks of positions."""
        if not isinstance(belief.carry, Tensor):  # an early exit has put its own state there, and the logits beside it
            return super().belief_ids(belief)
        net = self._net[0]
        parts = [net.token_logits(part).argmax(-1) for part in position_chunks(belief.carry, net.vocab_size)]
        return torch.cat(parts).view(belief.carry.shape[:-1])


class DiTBlock(nn.Module):
    """x + gate attention(modulated norm x), then x + gate MLP(modulated norm x); the modulation depends on time."""

    def __init__(
        self,
        width: int,
        heads: int,
        cond_width: int,
        softcap: float | None,
        dropout: float,
        qk_norm: bool = False,
        conv_width: int | None = None,
    ) -> None:
        super().__init__()
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} and {heads} heads: each head needs an even whole number of channels")
        self.heads, self.softcap = heads, softcap
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = nn.Linear(cond_width, 6 * width)
        self.drop = nn.Dropout(dropout)
        self.q_norm, self.k_norm = (RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity() for _ in range(2))
        self.conv = nn.Identity() if conv_width is None else ShortConv(width, conv_width)

    def forward(self, x: Tensor, t_emb: Tensor, freqs: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = per_position(self.adaLN_modulation(t_emb)).chunk(6, -1)
        x = x + gate1 * self.drop(self.attention(self.conv(self.norm1(x) * (1 + scale1) + shift1), freqs))
        hidden = gelu_out(self.mlp[0](self.norm2(x) * (1 + scale2) + shift2), self.mlp[2])
        return x + gate2 * self.drop(hidden)

    def attention(self, x: Tensor, freqs: Tensor) -> Tensor:
        """Bidirectional attention with rotary positions."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 of [B, h, S, w / h]
        q, k = apply_rope_halves(self.q_norm(q), freqs), apply_rope_halves(self.k_norm(k), freqs)
        if self.softcap is None:
            x = attend(q, k, v)
        else:
            x = softcap(q @ k.mT / q.shape[-1] ** 0.5, self.softcap).softmax(-1).to(v.dtype) @ v
        return self.proj(x.transpose(1, 2).flatten(2))


class LossWeighting(nn.Module):
    """w(t), the logarithm of the expected error at t: a loss is exp(-w) error + w (EDM2, 2312.02696)."""

    def __init__(self, cond_width: int, hidden: int = 128) -> None:
        super().__init__()
        self.t_embed = ScalarEmbedding(cond_width)
        self.mlp = nn.Sequential(nn.Linear(cond_width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, t: Times) -> Times:
        return self.mlp(self.t_embed(t))[:, 0]


def position_chunks(hidden: Tensor, vocab_size: int, budget: int = 2**22) -> tuple[Tensor, ...]:
    """Hidden states [B, S, width] in parts [n, width] of as many positions as have `budget` logits."""
    return hidden.flatten(0, -2).split(max(budget // vocab_size, 1))  # type: ignore[no-untyped-call]


def per_position(modulation: Tensor) -> Tensor:
    """[B, n] -> [B, 1, n]; [B, S, n], for one time per position, is unchanged."""
    return modulation[:, None] if modulation.ndim == 2 else modulation


def schedule_cdf(schedule: TimeSchedule, t: Tensor) -> Tensor:
    """CDF of a schedule at t, by bisection of its quantiles; it has first-order derivatives in t."""
    with torch.no_grad():
        at = t.detach().double()
        low, high = torch.zeros_like(at), torch.ones_like(at)
        for _ in range(40):
            middle = (low + high) / 2
            before = schedule.icdf(middle) < at
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        left, right = (low - 1e-4).clamp_min(0), (high + 1e-4).clamp_max(1)
        slope = (right - left) / (schedule.icdf(right) - schedule.icdf(left)).clamp_min(1e-9)
    return (high + slope * (t.double() - at)).to(t.dtype)


def softcap(logits: Tensor, limit: float) -> Tensor:
    """limit tanh(logits / limit)."""
    return limit * torch.tanh(logits / limit)
