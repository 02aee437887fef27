"""The network of MDLM and Duo: a DiT over corrupted tokens."""

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.codecs import OneHot
from textflow.nets.dit import DiT
from textflow.types import Ids, Logits, Times

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
        table = self.backbone.embed
        x = tokens @ table if tokens.is_floating_point() else table[tokens]
        return self.backbone.run_blocks(x, self.backbone.t_embed(sigma.to(x.dtype)))

    def lm_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... tokens"]:
        """Logits over the token states, float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.backbone.out(hidden.to(self.backbone.out.weight.dtype))
