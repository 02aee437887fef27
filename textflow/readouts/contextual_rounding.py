"""The readout of CoDAR (2603.02547): an autoregressive decoder that cross-attends to the denoised latents."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.functional import RMSNorm
from textflow.layers.perceiver import CrossAttention
from textflow.layers.rope import apply_rope_halves, rope
from textflow.layers.transformer import SwiGLU, attend
from textflow.noise import Noise
from textflow.readouts.autoregressive import Autoregressor
from textflow.readouts.base import View
from textflow.types import Ids, Latents, Logits, Mask


class ContextualRounding(Autoregressor):
    """p(ids | x) = prod p(id_i | ids before it, x), by causal layers that attend to the latents x (CoDAR, sec. 3).

    It is trained teacher-forced with the denoiser, which gets no gradient from it, on what sampling will give it: half
    of the rows are the denoiser's own predictions at a late time, half are x plus Gaussian noise of as large an error.
    [ours]: the sizes, this noise, and rotary positions in which a token lies at its place among the latents.

    Args:
        width: width of the hidden states.
        depth: number of layers.
        heads: number of attention heads.
        temperature: temperature of the drawn tokens; 0 takes the likeliest. It trades fluency for diversity.
        late: fraction of the path after which predictions are taken for training, in [0, 1).
        feedback: what the next token sees of one: the drawn `tokens`, or the `expectation` of their embeddings, the
            ablation of commitment [ours].
    """

    def __init__(
        self,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        temperature: float = 1.0,
        late: float = 0.9,
        feedback: Literal["tokens", "expectation"] = "tokens",
    ) -> None:
        super().__init__(width, 0, heads, temperature)
        if width % heads or width // heads % 2 or not 0 <= late < 1:
            raise ValueError(
                f"ContextualRounding got width {width}, {heads} heads and late {late}; each head needs an even whole "
                "number of channels, and late a number in [0, 1)"
            )
        self.late, self.feedback = late, feedback
        self.blocks = nn.ModuleList(RoundingBlock(width, heads) for _ in range(depth))

    def build(self, codec: Codec) -> None:
        super().build(codec)
        nn.init.normal_(self.embed.weight, std=0.02)

    def logits(self, view: View) -> Logits:
        """Logits of each token given the likeliest ones before it."""
        return self.generate(view, None)[1]

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        return self.generate(view, noise)[0]

    def fed_ids(self, ids: Ids) -> list[Ids]:
        return super().fed_ids(ids) if self.feedback == "tokens" else []

    def generate(self, view: View, noise: Noise | None) -> tuple[Ids, Logits]:
        """Tokens, drawn or the likeliest, and the logits of each [B, L, V]."""
        x, table = view.belief.mean, self.embed.weight
        length, ids, all_logits = view.codec.num_tokens(x.shape[1]), list[Tensor](), list[Tensor]()
        context, freqs = self.read_latents(x), self.token_freqs(length, x)
        past: list[Tensor | None] = [None] * len(self.blocks)
        token = table[-1].expand(len(x), 1, -1)
        for i in range(length):
            logits = self.run(token, context, (freqs[0][i : i + 1], freqs[1][i : i + 1]), past)[:, 0]
            all_logits.append(logits)
            ids.append(self.choose(logits, noise))
            token = table[ids[-1]][:, None]
            if self.feedback == "expectation":
                token = (logits / (self.temperature or 1.0)).softmax(-1)[:, None] @ table[:-1]
        return torch.stack(ids, 1), torch.stack(all_logits, 1)

    def next_logits(self, x: Latents, ids: Ids) -> Logits:
        before = F.pad(ids[:, :-1], (1, 0), value=self.embed.num_embeddings - 1)
        past: list[Tensor | None] = [None] * len(self.blocks)
        freqs = self.token_freqs(ids.shape[1], x)
        mask = torch.ones(2 * ids.shape[1:], dtype=torch.bool, device=x.device).tril()
        return self.run(self.embed(before), self.read_latents(x), freqs, past, mask)

    def nll(self, view: View, ids: Ids, mask: Mask) -> Tensor:
        view = view._replace(belief=view.belief._replace(mean=self.late_latents(view)))
        return super().nll(view, ids, mask)

    @torch.no_grad()
    def late_latents(self, view: View) -> Latents:
        """Predictions of the denoiser at late times, and in half of the rows x plus noise of a row's error."""
        x, path = view.belief.mean, view.path
        fraction = self.late + (1 - self.late) * torch.rand(len(x), device=x.device)
        t = path.t_min + (path.t_max - path.t_min) * fraction
        predicted = view.net(path.mix(x, torch.randn_like(x), t), t, view.cond).mean
        error = (predicted - x).square().mean((1, 2), keepdim=True).sqrt()
        noised = x + error[torch.randperm(len(x), device=x.device)] * torch.randn_like(x)
        return torch.where(torch.rand_like(error) < 0.5, predicted.to(x), noised)

    def read_latents(self, x: Latents) -> list[Float[Tensor, "2 B h S w"]]:
        """Keys and values of the latents, of each layer."""
        hidden, freqs = self.from_latent(x), rope(x.shape[1], self.head_width, x)
        return [block.cross.keys_values(hidden, freqs) for block in self.layers]

    def token_freqs(
        self, length: int, x: Latents
    ) -> tuple[Complex[Tensor, "length half"], Complex[Tensor, "length half"]]:
        """Rotations of the tokens among themselves, and among the latents."""
        stride = x.shape[1] / length
        return rope(length, self.head_width, x), rope(length, self.head_width, x, stride=stride)

    def run(
        self,
        x: Float[Tensor, "B Q width"],
        context: list[Tensor],
        freqs: tuple[Tensor, Tensor],
        past: list[Tensor | None],
        mask: Bool[Tensor, "Q Q"] | None = None,
    ) -> Logits:
        """Logits after embedded tokens; their keys and values are added to `past`, one entry a layer."""
        for i, block in enumerate(self.layers):
            x, past[i] = block(x, context[i], freqs, past[i], mask)
        return self.lm_head(self.norm(x))

    @property
    def layers(self) -> "list[RoundingBlock]":
        """The layers, by their type."""
        return [block for block in self.blocks if isinstance(block, RoundingBlock)]


class RoundingBlock(nn.Module):
    """x + causal attention(norm x), then x + attention to the latents(norm x), then x + SwiGLU(norm x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = (RMSNorm(width, eps=1e-6) for _ in range(3))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross, self.mlp = CrossAttention(width, heads), SwiGLU(width, int(4 * width * 2 / 3))

    def forward(
        self,
        x: Float[Tensor, "B Q width"],
        context: Float[Tensor, "2 B h S w"],
        freqs: tuple[Tensor, Tensor],
        past: Float[Tensor, "2 B h P w"] | None,
        mask: Bool[Tensor, "Q Q"] | None,
    ) -> tuple[Float[Tensor, "B Q width"], Float[Tensor, "2 B h K w"]]:
        """Hidden states, and keys and values of the tokens so far."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        keys_values = torch.stack([apply_rope_halves(k, freqs[0]), v])
        if past is not None:
            keys_values = torch.cat([past, keys_values], -2)
        k, v = keys_values.unbind(0)
        mixed = attend(apply_rope_halves(q, freqs[0]), k, v, mask)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        x = x + self.cross.attend_to(self.norm2(x), context, freqs=freqs[1])
        return x + self.mlp(self.norm3(x)), keys_values
