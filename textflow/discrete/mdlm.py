"""The network of MDLM: a DiT over tokens, some of them masked."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textflow.layers.transformer import rotary
from textflow.nets.dit import DiT
from textflow.types import Ids, Logits, Times


class MDLM(nn.Module):
    """Tokens, some masked -> the text behind them (MDLM, 2406.07524). The mask is one more token, the last.

    Args:
        vocab: number of tokens of the text (from the tokenizer).
        width: of the hidden states.
        depth: number of blocks.
        heads: of attention.
        cond: width of what the norms are told.
        dropout: of each block's branches, in [0, 1).
    """

    def __init__(
        self, vocab: int, width: int = 768, depth: int = 12, heads: int = 12, cond: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.vocab, self.mask = vocab, vocab
        self.body = DiT(vocab + 1, vocab + 1, width, depth, heads, cond, attention_cap=None, dropout=dropout)

    def forward(self, ids: Ids, sigma: Times) -> Float[Tensor, "B L width"]:
        """Hidden states, to be read by `logits`: training and sampling read few of them.

        Args:
            ids: tokens, some masked.
            sigma: noise that the norms are told; 0 for a network without time.
        """
        body, x = self.body, self.body.table[ids]
        told = F.silu(body.time(sigma.to(x.dtype)))
        turn = rotary(ids.shape[1], body.head_width, told)
        for block in body.blocks:
            x = block(x, told, turn)
        shift, scale = body.out_tell(told)[:, None].chunk(2, -1)
        return body.norm(x) * (1 + scale) + shift

    def logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... tokens"]:
        """Logits over the text's tokens and the mask, which SUBS never says."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.body.out(hidden.to(self.body.out.weight.dtype))


def subs(logits: Logits, ids: Ids, mask: int) -> Logits:
    """log p(text | tokens), float32: a mask is never text, and a token that is not masked stays (MDLM, SUBS).

    Args:
        logits: over the text's tokens and the mask, the last.
        ids: tokens, some masked.
        mask: id of the mask.
    """
    log_p = F.pad(logits[..., :mask].float().log_softmax(-1), (0, 1), value=-torch.inf)
    shown = torch.full_like(log_p, -torch.inf).scatter_(-1, ids[..., None], 0.0)
    return torch.where((ids == mask)[..., None], log_p, shown)
