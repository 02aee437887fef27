"""Autoregressive sampling: the next token of a causal language model."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.samplers.categorical import cut_to_nucleus, sample_by_inversion
from textflow.types import Ids, Logits, Mask


@dataclass(frozen=True)
class Autoregressive:
    """Sampling from softmax(logits / temperature), restricted to the nucleus if `top_p` is below 1; float64.

    Args:
        temperature: temperature of the token distribution, above 0; 1 leaves it unchanged.
        top_p: probability of the nucleus, the likeliest tokens, in (0, 1] (1904.09751).
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"Autoregressive got temperature {self.temperature} and top_p {self.top_p}; it needs a temperature "
                "above 0 and top_p above 0 and at most 1"
            )

    def sample(
        self, next_logits: Callable[[Ids], Logits], prompt_ids: Ids, prompt_mask: Mask, eos_id: int, noise: Noise
    ) -> Ids:
        """Token ids [B, L] that follow an EOS; finished rows are padded with EOS.

        Args:
            next_logits: last tokens [B, 1] -> logits of the next [B, 1, V].
            prompt_ids: token ids of the prompts [B, L].
            prompt_mask: True on the prompts, which come first [B, L].
            eos_id: id of the EOS token.
            noise: random streams, one a sample; every position draws one number, so rows do not depend on their batch.
        """
        last = torch.full_like(prompt_ids[:, 0], eos_id)
        ended, ids = torch.zeros_like(last, dtype=torch.bool), list[Tensor]()
        while len(ids) < prompt_ids.shape[1] and not bool(ended.all()):
            is_prompt, prompt_id = prompt_mask[:, len(ids)], prompt_ids[:, len(ids)]
            last = self.sample_token(next_logits(last[:, None])[:, -1], noise).masked_fill(ended, eos_id)
            last = torch.where(is_prompt, prompt_id, last)
            ended = ended | ((last == eos_id) & ~is_prompt)
            ids.append(last)
        return F.pad(torch.stack(ids, 1), (0, prompt_ids.shape[1] - len(ids)), value=eos_id)

    def sample_token(self, logits: Float[Tensor, "B V"], noise: Noise) -> Int[Tensor, " B"]:
        """A token of each row, from one uniform number of its stream."""
        weights = self.token_weights(logits)
        return sample_by_inversion(weights, noise.uniform(1)[:, 0].to(weights.device))

    def token_weights(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Token probabilities, not normalised after the nucleus is cut."""
        return cut_to_nucleus((logits.double() / self.temperature).softmax(-1), self.top_p)


def empty_kv_cache(net: nn.Module) -> dict[str, Any]:
    """An empty key/value cache, by the argument name of this version of transformers."""
    from transformers import DynamicCache

    names = signature(net.forward).parameters
    return {"cache" if "cache" in names else "past_key_values": DynamicCache()}
