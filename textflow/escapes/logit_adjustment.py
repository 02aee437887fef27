"""Logit adjustment (Menon et al., 2007.07314): tokens that are likely all over a row lose weight."""

from torch import nn

from textflow.escapes.base import Embed, Escape, TokenLogits
from textflow.escapes.commit import Commit
from textflow.noise import Noise
from textflow.types import Logits, Posterior


class LogitAdjustment(Escape):
    """An escape with the logits log p(v | z_t) - tau log(mean over the row's positions of p(v | z_t)) [ours].

    The likeliest token is too often a frequent one, so texts of likeliest tokens lose entropy; the adjustment restores
    it. The prior is computed per row, so a text does not depend on its batch.

    Args:
        escape: escape that receives the adjusted logits, as does its gate.
        tau: strength of the adjustment, in [0, 1); 0 is the escape alone, above about .3 quality falls.
    """

    def __init__(self, escape: Escape = Commit(), tau: float = 0.2) -> None:
        super().__init__()
        if not 0 <= tau < 1:
            raise ValueError(f"tau = {tau}: LogitAdjustment needs one in [0, 1); 0 is the escape alone")
        self.escape, self.tau = escape, tau

    def forward(self, belief: Posterior, t: float, token_logits: TokenLogits, embed: Embed, noise: Noise) -> Posterior:
        return self.escape(belief, t, lambda: adjust_logits(token_logits(), self.tau), embed, noise)


def adjust_logits(logits: Logits, tau: float) -> Logits:
    """log p(v) - tau log(mean of p(v) over the positions) [B, L, V], up to a constant, tau in [0, 1); in log space,
    since a token may be unlikely everywhere."""
    log_p = nn.functional.log_softmax(logits, dim=-1)
    return log_p - tau * log_p.logsumexp(1, keepdim=True)
