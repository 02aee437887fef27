"""The next token of an autoregressive model."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.samplers.categorical import invert
from textflow.types import Ids, Logits, Mask


@dataclass(frozen=True)
class NextToken:
    """Drawn from softmax(logits / temperature), from its likeliest tokens where `nucleus` is below 1; float64.

    Args:
        temperature: above 0; 1 is the model's own law.
        nucleus: probability of the likeliest tokens that are drawn from, in (0, 1] (1904.09751).
    """

    temperature: float = 1.0
    nucleus: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 < self.nucleus <= 1:
            raise ValueError(
                f"NextToken got temperature {self.temperature} and nucleus {self.nucleus}; it needs a temperature "
                "above 0 and a nucleus above 0 and at most 1"
            )

    def sample(self, read: Callable[[Ids], Logits], given: Ids, fixed: Mask, eos: int, noise: Noise) -> Ids:
        """ids [B, L] after an EOS; a row that has ended goes on with EOS.

        Args:
            read: the tokens that follow what was read before [B, 1] -> logits [B, 1, V].
            given: tokens that rows begin with.
            fixed: True where they stand.
            eos: id that ends a text.
            noise: the samples' own streams; every token draws alike, so that a row does not depend on its batch.
        """
        last = torch.full_like(given[:, 0], eos)
        ended, ids = torch.zeros_like(last, dtype=torch.bool), list[Tensor]()
        while len(ids) < given.shape[1] and not bool(ended.all()):
            told, spot = fixed[:, len(ids)], given[:, len(ids)]
            last = self.choose(read(last[:, None])[:, -1], noise).masked_fill(ended, eos)
            last = torch.where(told, spot, last)
            ended = ended | ((last == eos) & ~told)
            ids.append(last)
        return F.pad(torch.stack(ids, 1), (0, given.shape[1] - len(ids)), value=eos)

    def choose(self, logits: Float[Tensor, "B V"], noise: Noise) -> Int[Tensor, " B"]:
        """A token of each row, by one uniform number of its stream."""
        law = self.law(logits)
        return invert(law, noise.uniform(1)[:, 0].to(law.device))

    def law(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Probabilities, not normalised where the nucleus cuts."""
        p = (logits.double() / self.temperature).softmax(-1)
        if self.nucleus == 1:
            return p
        likely, order = p.sort(descending=True, stable=True)
        inside = likely.cumsum(-1) - likely < self.nucleus  # what is above it does not fill the nucleus yet
        return torch.zeros_like(p).scatter(-1, order, likely * inside)


def remembered(net: nn.Module) -> dict[str, Any]:
    """An empty memory of keys and values, by the name that this version of transformers gives it."""
    from transformers import DynamicCache

    known = signature(net.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": DynamicCache()}
