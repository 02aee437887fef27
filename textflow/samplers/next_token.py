"""The next token of an autoregressive model."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.noise import Noise
from textflow.samplers.draw import invert


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
