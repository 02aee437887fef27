"""Fairness: the tokens that a row's beliefs favour are held back a little."""

from collections.abc import Callable

from torch import nn

from textflow.escapes.base import Escape
from textflow.escapes.commit import Commit
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Posterior


class Fair(Escape):
    """`escape` by log p(v | z_t) - strength log(mean over the row's positions of p(v | z_t)) [ours].

    The likeliest token is too often a frequent one, so texts of likeliest tokens lose entropy; this gives it back.
    Other rows are not looked at: a text does not depend on its batch.

    Args:
        escape: that chooses; its gate sees the changed logits.
        strength: in [0, 1); 0 is the escape alone, at most about .3 keeps the choice good.
    """

    def __init__(self, escape: Escape = Commit(), strength: float = 0.2) -> None:
        super().__init__()
        if not 0 <= strength < 1:
            raise ValueError(f"strength = {strength}: Fair needs one in [0, 1); 0 is the escape alone")
        self.escape, self.strength = escape, strength

    def forward(
        self,
        belief: Posterior,
        t: float,
        tokens: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        return self.escape(belief, t, lambda: fair(tokens(), self.strength), embed, noise)


def fair(logits: Logits, strength: float) -> Logits:
    """log p(v) - strength log(mean of p(v) over the positions), but for a constant; in log space, since a token may be
    unlikely everywhere.

    Args:
        logits: of rows.
        strength: in [0, 1).
    """
    spoken = nn.functional.log_softmax(logits, dim=-1)
    return spoken - strength * spoken.logsumexp(1, keepdim=True)
