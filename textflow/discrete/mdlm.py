"""The network of MDLM: a DiT over partly masked tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textflow.codecs import OneHot
from textflow.nets.dit import DiT
from textflow.types import Ids, Logits, Times


class MDLM(nn.Module):
    """Partly masked tokens -> logits of the clean tokens (MDLM, 2406.07524). The mask is one more token, the last.

    Args:
        vocab_size: number of tokens without the mask (from the tokenizer).
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
        self.vocab_size, self.mask_id = vocab_size, vocab_size
        self.backbone = DiT(
            OneHot(vocab_size + 1), width, depth, heads, cond_width, attention_softcap=None, dropout=dropout
        )

    def forward(self, ids: Ids, sigma: Times) -> Float[Tensor, "B L width"]:
        """Hidden states, which `lm_logits` maps to logits only where they are needed.

        Args:
            ids: token ids, some masked [B, L].
            sigma: noise level of each row [B]; 0 for a network without time conditioning.
        """
        x = self.backbone.embed[ids]
        return self.backbone.run_blocks(x, self.backbone.t_embed(sigma.to(x.dtype)))

    def lm_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... tokens"]:
        """Logits over the tokens and the mask; `subs_parameterization` removes the mask."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.backbone.out(hidden.to(self.backbone.out.weight.dtype))


def subs_parameterization(logits: Logits, ids: Ids, mask_id: int) -> Logits:
    """log p(clean token | partly masked tokens), float32: no mass on the mask, unmasked tokens stay (MDLM).

    Args:
        logits: logits over the tokens and the mask, the last [B, L, V + 1].
        ids: token ids, some masked [B, L].
        mask_id: id of the mask token.
    """
    log_p = F.pad(logits[..., :mask_id].float().log_softmax(-1), (0, 1), value=-torch.inf)
    unmasked = torch.full_like(log_p, -torch.inf).scatter_(-1, ids[..., None], 0.0)
    return torch.where((ids == mask_id)[..., None], log_p, unmasked)
