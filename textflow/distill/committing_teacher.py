"""A teacher that chooses: where a gate says so, its guess becomes the latents of the likeliest tokens."""

from collections.abc import Callable

import torch

from textflow.escapes.base import Gate
from textflow.escapes.gates import Schedule
from textflow.escapes.logit_adjustment import fair
from textflow.nets.base import Speaker
from textflow.paths.base import Path, column
from textflow.types import Given, Ids, Latents, Logits, Posterior, Times

EARLY = 0.01  # before that z tells nothing, and nothing is chosen


class Choosing:
    """mean <- embed(argmax p(token | z_t)) where the gate says so: a Guess that commits as the escape Commit does.

    Args:
        net: of the teacher; tokens are read by its commitment head, or else by its decode mode (`Matched`).
        gate: where; one that does not look at the time.
        embed: tokens -> clean latents.
        path: of the latents.
        scale: standard deviation of a decoding row's noise at share 0.
        strength: of fairness, in [0, 1), as of the escape Fair.
    """

    def __init__(
        self,
        net: Speaker,
        gate: Gate,
        embed: Callable[[Ids], Latents],
        path: Path,
        scale: float,
        strength: float = 0.0,
    ) -> None:
        if isinstance(gate, Schedule):
            raise ValueError("a teacher's rows have times of their own: the gate Schedule knows one; use All or Tube")
        self.net, self.gate, self.embed, self.path, self.scale = net, gate, embed, path, scale
        self.strength = strength

    def __call__(self, z: Latents, t: Times, given: Given = Given()) -> Posterior:
        hidden = self.net.trunk(z, t, given)
        mean = self.net.mean(hidden)
        logits = self.net.token_logits(hidden)
        if logits is None:
            logits = self.read(z, t, given)
        if self.strength:
            logits = fair(logits, self.strength)
        chosen = self.gate(logits, mean, 0.5) & (t > EARLY)[:, None]
        return Posterior(torch.where(chosen[..., None], self.embed(logits.argmax(-1)).to(mean), mean))

    def read(self, z: Latents, t: Times, given: Given) -> Logits:
        """p(token | z_t) by the decode mode, at the share of text that decoding was trained with."""
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        part = column(self.scale / (self.scale * alpha + sigma), z)
        return self.net.decode(part * z, torch.ones_like(t), given._replace(prev=None, until=None))
