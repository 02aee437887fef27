"""Ancestral sampling of masked diffusion: masks become tokens and stay."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.samplers.categorical import invert, race
from textflow.types import Ids, Rows

States: TypeAlias = Float[Tensor, "B L width"]
See: TypeAlias = Callable[[Ids, float], States]  # tokens, some masked; t -> hidden states
Read: TypeAlias = Callable[[Tensor], Tensor]  # hidden states [n, width] -> logits [n, V + 1], the mask's last


@dataclass(frozen=True)
class Unmask:
    """From t to u each mask stays with probability (1 - u) / (1 - t), else it becomes a token (MDLM, ddpm_cache).

    A network that is not told the time is asked again only about rows in which a token has changed; what is still
    masked at the end becomes its likeliest token.

    Args:
        temperature: of tokens, above 0; 1 is the model's own law.
        draws: random numbers a token: `one`, inverted [ours], or one for each of its values, `gumbel` (MDLM).
        left: share of masks left to the end, in [0, 1).
    """

    temperature: float = 1.0
    draws: Literal["one", "gumbel"] = "one"
    left: float = 1e-5

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.left < 1:
            raise ValueError(
                f"Unmask got temperature {self.temperature} and left {self.left}; it needs a temperature above 0 and a "
                "share left in [0, 1)"
            )

    def sample(
        self, see: See, read: Read, ids: Ids, mask: int, times: list[float], noise: Noise, timed: bool = False
    ) -> Ids:
        """Tokens in place of all masks. Only what turns into a token is read.

        Args:
            see: a network over tokens.
            read: what its states say.
            ids: tokens, most or all masked; those that are not are a prompt.
            mask: id of the mask, the last.
            times: increasing, from 0 to 1.
            noise: the samples' own streams.
            timed: whether the network is told the time, so that all rows are asked anew.
        """
        states, stale = None, (ids == mask).any(1)
        for t, u in pairwise(time * (1 - self.left) for time in times):
            states = renewed(states, see, ids, stale, t)
            before, ids = ids, self.step(states, read, ids, mask, t, u, noise)
            stale = ((ids != before).any(1) | timed) & (ids == mask).any(1)
        states, masked = renewed(states, see, ids, stale, times[-1] * (1 - self.left)), ids == mask
        return ids.index_put((masked,), read(states[masked])[:, :mask].argmax(-1))

    def step(self, states: States, read: Read, ids: Ids, mask: int, t: float, u: float, noise: Noise) -> Ids:
        """Some masks become tokens; every row draws the same amount of noise, whatever is masked."""
        masked, before, after = ids == mask, 1 - t, 1 - u
        if self.draws == "gumbel":
            uniform = noise.uniform(ids.shape[1], mask + 1).to(ids.device)
            law = bridge(read(states[masked]) / self.temperature, before, after)  # [n, V + 1]
            return ids.index_put((masked,), race(law, uniform[masked]))
        uniform = (
            noise.uniform(ids.shape[1]).to(ids.device) * before
        )  # below `after` a mask stays, the rest is a token's
        turned = masked & (uniform >= after)
        law = (read(states[turned])[:, :mask].double() / self.temperature).softmax(-1)  # [n, V]
        quantile = ((uniform[turned] - after) / (before - after)).clamp_min(torch.finfo(torch.float64).tiny)
        return ids.index_put((turned,), invert(law, quantile))


def bridge(logits: Float[Tensor, "... N"], before: float, after: float) -> Float[Tensor, "... N"]:
    """The law of a masked token one step later, times `before`: p (before - after), and `after` on the mask; float64.

    Args:
        logits: of the text's tokens; the last entry, the mask's, is not read.
        before: probability of a mask at t.
        after: probability of a mask at u.
    """
    law = logits.double()[..., :-1].softmax(-1) * (before - after)
    return torch.cat([law, torch.full_like(law[..., :1], after)], -1)


def renewed(states: States | None, see: See, ids: Ids, stale: Rows, t: float) -> States:
    """Hidden states, the network being asked about stale rows alone."""
    if states is None or bool(stale.all()):
        return see(ids, t)
    if bool(stale.any()):
        states[stale] = see(ids[stale], t)
    return states
