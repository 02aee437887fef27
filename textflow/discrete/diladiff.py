"""DiLaDiff (2605.23605): latents of a row, and a masked diffusion of its tokens that is conditioned on them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.codecs import BertCodec, Codec, FeatureResampler
from textflow.discrete.denoiser import HiddenStates, TokenDenoiseFn, TokenDiT
from textflow.discrete.mdlm import MDLMObjective, MDLMSampler
from textflow.layers.perceiver import CrossAttention
from textflow.layers.rope import rope
from textflow.noise import Noise
from textflow.readouts import Readout, View
from textflow.schedules import Uniform
from textflow.types import Ids, Latents, Logits, RowMask, Times


class LatentTokenDiT(TokenDiT):
    """MDLM's network, whose hidden states attend to latents: h <- h + W_2 CrossAttention(W_1 h; z) before its first and
    its middle block (DiLaDiff, sec. 3; the places [ours]). W_1 and W_2 begin at 0: it then equals MDLM bit for bit, as
    it always does without latents.

    Args:
        vocab_size: number of token states, the mask the last.
        latent_dim: width of the latents.
        width: width of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        cond_width: width of the time embedding that modulates the norms.
        dropout: dropout rate in each block's branches, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        latent_dim: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        cond_width: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(vocab_size, width, depth, heads, cond_width, dropout)
        places = sorted({0, depth // 2})
        self.to_latents = nn.ModuleDict({str(place): LatentAttention(width, heads, latent_dim) for place in places})

    def forward(
        self, tokens: Ids | Logits, sigma: Times, latents: Latents | None = None, rows: RowMask | None = None
    ) -> HiddenStates:
        """Hidden states; arguments as in `TokenDiT`.

        Args:
            latents: latents of the rows [B, S, d]; None is MDLM.
            rows: rows that see their latents [B]; default: all.
        """
        if latents is None:
            return super().forward(tokens, sigma)
        x = self.embed(tokens)
        seen = latents.new_ones(len(latents)) if rows is None else rows.to(latents.dtype)

        def before(number: int, x: Tensor) -> Tensor:
            if str(number) not in self.to_latents:
                return x
            return x + seen[:, None, None].to(x.dtype) * self.to_latents[str(number)](x, latents)

        return self.backbone.run_blocks(x, self.backbone.t_embed(sigma.to(x.dtype)), before)


class LatentAttention(nn.Module):
    """W_2 CrossAttention(W_1 h; z), both at 0 at first. Rotary positions, in which a token lies at its place among the
    latents, tell masked tokens apart [ours]: MDLM's network gives all of a fully masked row the same law."""

    def __init__(self, width: int, heads: int, latent_dim: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, width), nn.Linear(width, width)
        self.attn = CrossAttention(width, heads, latent_dim)
        for layer in (self.w1, self.w2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: HiddenStates, latents: Latents) -> Float[Tensor, "B L width"]:
        length, count = hidden.shape[1], latents.shape[1]
        head = hidden.shape[-1] // self.attn.heads
        keys_values = self.attn.keys_values(latents, rope(count, head, latents))
        places = rope(length, head, latents, stride=count / length)
        return self.w2(self.attn.attend_to(self.w1(hidden), keys_values, freqs=places))


class DiLaDiffCodec(FeatureResampler):
    """Latents of a FeatureResampler, and a masked diffusion of the tokens given them: `MaskedDecoding` draws from it.

    Position by position, `decode_logits` gives p(token | z) of a row whose tokens are all masked [ours].

    Args:
        vocab_size: number of tokens (from the tokenizer).
        features: makes the codec whose latents are the features.
        dim: width of the latents.
        latents: number of latents S of a row (DiLaDiff: half as many as tokens).
        length: number of tokens L of a row; equal to data.seq_length of the recipe.
        depth: number of layers of the encoder.
        heads: number of attention heads of the encoder; divides the width of the features.
        decoder: makes the decoder's network from the number of token states and the width of the latents.
    """

    def __init__(
        self,
        vocab_size: int,
        features: Callable[[int], Codec] = BertCodec,
        dim: int = 768,
        latents: int = 512,
        length: int = 1024,
        depth: int = 2,
        heads: int = 12,
        decoder: Callable[[int, int], LatentTokenDiT] = LatentTokenDiT,
    ) -> None:
        super().__init__(vocab_size, features, dim, latents, length, depth, heads)
        self.diffusion = MDLMObjective()
        self.decoder = decoder(self.diffusion.process.num_states(vocab_size), dim)

    def denoise_fn(self, z: Latents) -> TokenDenoiseFn:
        """The decoder's network given latents, as a discrete sampler calls it."""
        return TokenDenoiseFn(self.decoder, self.diffusion.network_sigma, self.diffusion.process, latents=z)

    def masked_rows(self, z: Latents) -> Ids:
        """Rows whose tokens are all masked [B, L]."""
        return torch.full((len(z), self.length), self.vocab_size, device=z.device)

    def decode_logits(self, z: Latents) -> Logits:
        denoise = self.denoise_fn(z)
        return denoise.logits(denoise(self.masked_rows(z), 0.0))[..., :-1]


class MaskedDecoding(Readout):
    """Tokens by the masked diffusion of a DiLaDiffCodec given the final latents, in `steps` passes of its network.

    Args:
        steps: number of discrete steps, >= 1.
        sampler: sampling rule of the tokens; default: temperature 1, nucleus .9 (DiLaDiff).
    """

    def __init__(self, steps: int = 32, sampler: MDLMSampler = MDLMSampler(top_p=0.9)) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"MaskedDecoding got {steps} steps; it needs at least 1")
        self.steps, self.sampler = steps, sampler

    def logits(self, view: View) -> Logits:
        return self.codec(view).decode_logits(view.belief.mean)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        if noise is None:
            return super().decode(view)
        codec, z = self.codec(view), view.belief.mean
        return self.sampler.sample(codec.denoise_fn(z), codec.masked_rows(z), Uniform().grid(self.steps), noise)

    def codec(self, view: View) -> DiLaDiffCodec:
        """The codec of a view, which must have a masked diffusion."""
        if not isinstance(view.codec, DiLaDiffCodec):
            raise ValueError(
                f"the readout MaskedDecoding needs the codec DiLaDiffCodec, not {type(view.codec).__name__}; use "
                "FromCodec"
            )
        return view.codec

    def num_calls(self, length: int) -> int:
        return self.steps

    def fed_ids(self, ids: Ids) -> list[Ids]:
        """Tokens that each pass sees: each token's pass is uniform and independent of its value, as in the sampler, and
        drawn from a stream of its own for each row."""
        chosen = (Noise(range(len(ids))).uniform(ids.shape[1]) * self.steps).long().to(ids.device)
        return [ids.masked_fill(chosen >= call, -1) for call in range(self.steps)]
