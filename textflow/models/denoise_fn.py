"""Escaped: escape after early stop after net, all that a sampler sees of a model."""

from collections.abc import Callable
from dataclasses import dataclass

from textflow.escapes import Escape
from textflow.noise import Noise
from textflow.samplers import EarlyStop
from textflow.types import Denoise, Ids, Latents, Logits, Posterior


@dataclass
class End:
    """Where a step ends.

    Args:
        until: its time; None where nobody said.
    """

    until: float | None = None


class Escaped:
    """A Denoise of one sampling run. Rows that have stopped are answered from memory; the escape is of all rows, so
    that the streams do not shift. `inner` leaves the escape out, for the last step.

    Args:
        bare: the net, guidance closed over.
        tokens: z, t and belief -> logits of p(token | z_t).
        escape: what is chosen; None is the bare net.
        embed: tokens -> clean latents.
        noise: the samples' own streams; an escape needs them.
        stop: when a row takes no further passes.
        end: is set to the end of each step; the bare net looks there.
    """

    def __init__(
        self,
        bare: Denoise,
        tokens: Callable[[Latents, float, Posterior], Logits],
        escape: Escape | None,
        embed: Callable[[Ids], Latents],
        noise: Noise | None,
        stop: EarlyStop | None,
        end: End | None = None,
    ) -> None:
        self.inner: Denoise = stop.watch(bare, tokens) if stop and noise else bare
        self.tokens, self.escape, self.embed, self.noise, self.stop = tokens, escape, embed, noise, stop
        self.end = end or End()

    @property
    def until(self) -> float | None:
        """End of the step."""
        return self.end.until

    @until.setter
    def until(self, u: float | None) -> None:
        self.end.until = u

    def __call__(self, z: Latents, t: float, prev: Latents | None = None) -> Posterior:
        belief = self.inner(z, t, prev)
        if self.escape is None or self.noise is None:
            return belief

        def said() -> Logits:
            known = belief.logits if self.stop else None
            return self.tokens(z, t, belief) if known is None else known

        return self.escape(belief, t, said, self.embed, self.noise)
