"""The network of MDLM and Duo, a DiT over corrupted tokens, and its call by a sampler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.codecs import OneHot
from textflow.discrete.process import Process
from textflow.layers.chunked_loss import linear_loss
from textflow.nets.dit import DiT
from textflow.types import Ids, Latents, Logits, RowMask, Times

HiddenStates: TypeAlias = Float[Tensor, "B L width"]


class TokenDiT(nn.Module):
    """Corrupted tokens -> logits of the clean tokens (MDLM, 2406.07524; Duo, 2506.10892).

    Args:
        vocab_size: number of token states (from the tokenizer and the process; a mask is the last).
        width: width of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        cond_width: width of the time embedding that modulates the norms.
        dropout: dropout rate in each block's branches, in [0, 1).
    """

    carries_states: bool = False  # whether a sampler's pass reads the hidden states of the pass before

    def __init__(
        self,
        vocab_size: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        cond_width: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.backbone = DiT(
            OneHot(vocab_size), width, depth, heads, cond_width, attention_softcap=None, dropout=dropout
        )

    def forward(self, tokens: Ids | Logits, sigma: Times) -> HiddenStates:
        """Hidden states, which `lm_logits` maps to logits only where they are needed.

        Args:
            tokens: corrupted token ids [B, L], or probabilities of tokens [B, L, N], which mix their embeddings.
            sigma: noise level of each row [B]; 0 for a network without time conditioning.
        """
        return self.hidden_states(self.embed(tokens), sigma)

    def next_states(self, tokens: Ids, sigma: Times, states: HiddenStates | None) -> HiddenStates:
        """Hidden states of a sampler's pass; arguments as in `forward`.

        Args:
            states: hidden states of the pass before; None in the first pass.
        """
        return self(tokens, sigma)

    def embed(self, tokens: Ids | Logits) -> HiddenStates:
        """Embeddings of tokens, or means of them."""
        table = self.backbone.embed
        return tokens @ table if tokens.is_floating_point() else table[tokens]

    def hidden_states(self, x: HiddenStates, sigma: Times) -> HiddenStates:
        """Hidden states of embedded tokens."""
        return self.backbone.run_blocks(x, self.backbone.t_embed(sigma.to(x.dtype)))

    def lm_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... tokens"]:
        """Logits over the token states, float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.backbone.out(hidden.to(self.backbone.out.weight.dtype))

    def lm_loss(self, hidden: Float[Tensor, "n width"], loss: Callable[[Tensor, slice], Tensor]) -> Float[Tensor, ""]:
        """Sum of a loss of logits, without an n x N tensor in memory; arguments as in `linear_loss`."""
        with torch.autocast(hidden.device.type, enabled=False):
            out = self.backbone.out
            return linear_loss(hidden.to(out.weight.dtype), out.weight, out.bias, loss)


@dataclass
class TokenDenoiseFn:
    """The network and its noise levels, the only thing that a discrete sampler calls. Without time conditioning, and
    without states that the network carries, a row is evaluated again only after one of its tokens has changed.

    Args:
        net: network over corrupted tokens.
        sigma: time of each row -> noise level that the network is conditioned on.
        process: corruption of the tokens.
        time_conditioning: whether the hidden states depend on time.
        observe: called with (ids, t, hidden states) of each network pass, for diagnostics.
        ids: tokens of the last pass.
        states: their hidden states.
        latents: latents that the network is conditioned on [B, S, d]; None for one without.
    """

    net: TokenDiT
    sigma: Callable[[Times], Times]
    process: Process
    time_conditioning: bool = False
    observe: Callable[[Ids, float, HiddenStates], None] | None = None
    ids: Ids | None = None
    states: HiddenStates | None = None
    latents: Latents | None = None

    def __call__(self, ids: Ids, t: float, rows: RowMask | None = None) -> HiddenStates:
        """Hidden states [B, L, width].

        Args:
            ids: corrupted tokens [B, L].
            t: time in [0, 1].
            rows: rows whose states are needed [B]; default: all.
        """
        if self.ids is None or self.states is None:
            self.ids, self.states = ids, self._evaluate(ids, t, slice(None), None)
            return self.states
        stale = (ids != self.ids).any(1) | self.time_conditioning | self.net.carries_states
        if rows is not None:
            stale &= rows
        if bool(stale.any()):
            all_stale = bool(stale.all())
            states = self._evaluate(ids, t, slice(None) if all_stale else stale, self.states)
            self.ids = torch.where(stale[:, None], ids, self.ids)
            self.states = states if all_stale else self.states.index_put((stale,), states)
        return self.states

    def logits(self, states: Tensor) -> Tensor:
        """Logits of hidden states [..., N]."""
        return self.net.lm_logits(states)

    def _evaluate(
        self, ids: Ids, t: float, rows: RowMask | slice, states: HiddenStates | None
    ) -> Float[Tensor, "rows L width"]:
        """Hidden states of these rows, given those of the pass before of all rows."""
        ids, states = ids[rows], None if states is None else states[rows]
        sigma = self.sigma(torch.full((len(ids),), t, dtype=torch.float64, device=ids.device))
        if self.latents is None:
            states = self.net.next_states(ids, sigma, states)
        else:
            states = self.net(ids, sigma, self.latents[rows])
        if self.observe is not None:
            self.observe(ids, t, states)
        return states
