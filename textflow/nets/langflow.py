"""The network of LangFlow: a DiT on embeddings, whose token logits contain the likelihood of z_t."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.codecs import Codec, EmbeddingTable
from textflow.layers.functional import linear_nll_each
from textflow.nets.dit import DiT, position_chunks
from textflow.paths.base import broadcast_time
from textflow.types import Conditioning, Ids, Latents, Logits, Posterior, Times

BUDGET = 2**22  # logits in memory at once


class LangFlow(DiT):
    """z_t, its own last mean s -> logits = DiT(z + W [z, s], gamma) + ramp alpha / sigma^2 z E^T; E[x | z_t] is
    softmax(logits) E (LangFlow, 2604.11748). alpha and sigma are those of VariancePreserving, gamma = -t.

    Embeddings of one length cancel from the exact likelihood of a token but for z E^T. The belief carries `features` in
    place of logits, and means and losses are computed in chunks of positions.

    Args:
        codec: codec of the latents, EmbeddingTable.
        depth: number of blocks.
        heads: number of attention heads.
        cond_width: width of the time embedding that modulates the norms.
        dropout: dropout rate in each block's branches, in [0, 1).
        two_time: whether the net is conditioned on the end of a step too (flow maps).
        width: width of the hidden states; default: that of the latents, which they are added to (LangFlow). A wider
            net has room beside the noise [ours].
        qk_norm: whether queries and keys are RMS-normalised per head, as in DiT [ours].
        conv_width: number of positions of a depthwise convolution before each attention, as in DiT [ours].
    """

    ramp: Tensor

    def __init__(
        self,
        codec: Codec,
        depth: int = 12,
        heads: int = 12,
        cond_width: int = 128,
        dropout: float = 0.1,
        two_time: bool = False,
        width: int | None = None,
        qk_norm: bool = False,
        conv_width: int | None = None,
    ) -> None:
        if not isinstance(codec, EmbeddingTable):
            raise ValueError(f"the net LangFlow needs the codec EmbeddingTable, not {type(codec).__name__}")
        own = width or codec.dim
        super().__init__(
            codec, own, depth, heads, cond_width, two_time, None, None, dropout, qk_norm=qk_norm, conv_width=conv_width
        )
        self.wider = width is not None
        if not self.wider:
            del self.embed  # latents are hidden states
        self.self_cond_proj = nn.Linear(2 * codec.dim, own, bias=False)
        nn.init.zeros_(self.self_cond_proj.weight)
        self.register_buffer("ramp", torch.ones(()))  # weight of the likelihood, which the objective raises from 0

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        features = self.features(z, t, cond)
        return Posterior(self.mean(features), carry=features)

    def forward_logits(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Logits:
        return self.token_logits(self.features(z, t, cond))

    def features(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Float[Tensor, "B S features"]:
        """Hidden states, and z alpha / sigma^2 beside them; token logits are linear in both."""
        previous = torch.zeros_like(z) if cond.self_cond is None else cond.self_cond
        with torch.autocast(z.device.type, enabled=False):
            x = (z @ self.embed if self.wider else z) + self.self_cond_proj(torch.cat([z, previous], -1))
            strength = torch.exp((t + F.softplus(t)) / 2)  # alpha / sigma^2
            evidence = self.ramp * broadcast_time(strength, z) * z
        end = None if cond.end_time is None else -cond.end_time
        hidden = self.forward_hidden(x, -t, cond._replace(end_time=end))
        return torch.cat([hidden.to(z.dtype), evidence], -1)

    def token_logits(
        self, hidden: Float[Tensor, "... features"], table: Float[Tensor, "V d"] | None = None
    ) -> Float[Tensor, "... V"]:
        """Token logits of `features`, float32; the table is E, computed once for many calls."""
        with torch.autocast(hidden.device.type, enabled=False):
            inner, evidence = hidden[..., : -self.dim], hidden[..., -self.dim :]
            return self.out(inner) + evidence @ (self.table if table is None else table).T

    def mean(self, features: Float[Tensor, "B S features"]) -> Latents:
        """softmax(logits) E, in chunks of positions."""
        table = self.table
        with torch.autocast(features.device.type, enabled=False):
            parts = [self.token_logits(part, table).softmax(-1) @ table for part in self._chunks(features)]
        return torch.cat(parts).view(*features.shape[:-1], self.dim)

    def token_nll(
        self, features: Float[Tensor, "n features"], ids: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
        """Sum of -log p(ids), and its terms without gradient, in chunks of positions."""
        with torch.autocast(features.device.type, enabled=False):
            return linear_nll_each(features, torch.cat([self.out.weight, self.table], 1), self.out.bias, ids)

    def belief_logits(self, belief: Posterior) -> Logits | None:
        return self.token_logits(belief.carry) if isinstance(belief.carry, Tensor) else belief.logits

    def belief_ids(self, belief: Posterior) -> Ids | None:
        if not isinstance(belief.carry, Tensor):
            return super().belief_ids(belief)
        table = self.table
        parts = [self.token_logits(part, table).argmax(-1) for part in self._chunks(belief.carry)]
        return torch.cat(parts).view(belief.carry.shape[:-1])

    @property
    def table(self) -> Float[Tensor, "V d"]:
        """E, embeddings of the tokens, one a row."""
        codec = self.token_codec
        assert isinstance(codec, EmbeddingTable)
        return codec.embeddings

    def _chunks(self, features: Float[Tensor, "B S features"]) -> tuple[Tensor, ...]:
        """Features of as many positions as have `BUDGET` logits."""
        return position_chunks(features, self.vocab_size, BUDGET)
