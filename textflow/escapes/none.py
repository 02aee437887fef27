"""No escape."""

from collections.abc import Callable

from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Posterior


class NoEscape(Escape):
    """The posterior mean carries z; no position commits before the final readout."""

    def forward(
        self,
        belief: Posterior,
        t: float,
        token_logits: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        return belief
