"""Readouts of the belief alone: the codec's decoder, or the denoiser's own token logits."""

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.noise import Noise
from textflow.readouts.base import Readout, View
from textflow.types import Ids, Logits


class FromCodec(Readout):
    """The codec decodes E[x | z_t].

    Args:
        repetition_penalty: divides the logits above 0 of tokens in the blocks before, and multiplies those below
            (1909.05858), where text is read block after block; 1 is none (Cola-DLM: 1.1).
        temperature: temperature of the drawn tokens, after the penalty; 0 takes the likeliest (Cola-DLM, released code:
            0, and the two numbers below).
        top_k: number of likeliest tokens that are drawn from, >= 1.
        top_p: probability of the likeliest of these that are drawn from, in (0, 1]; 1 is all (1904.09751).
    """

    def __init__(
        self, repetition_penalty: float = 1.0, temperature: float = 0.0, top_k: int = 50, top_p: float = 0.9
    ) -> None:
        super().__init__()
        if repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty is {repetition_penalty}; needs a factor above 0, 1 for none")
        if temperature < 0 or top_k < 1 or not 0 < top_p <= 1:
            raise ValueError(
                f"FromCodec got temperature {temperature}, top_k {top_k} and top_p {top_p}; it needs a temperature of "
                "at least 0, top_k of at least 1, and top_p above 0 and at most 1"
            )
        self.repetition_penalty, self.temperature = repetition_penalty, temperature
        self.top_k, self.top_p = top_k, top_p

    def logits(self, view: View) -> Logits:
        return view.codec.decode_logits(view.belief.mean)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        logits = self.penalised(self.logits(view), view.before)
        if not self.temperature or noise is None:
            return logits.argmax(-1)
        likely, ids = (logits.double() / self.temperature).topk(min(self.top_k, logits.shape[-1]))
        p = likely.softmax(-1)
        outside = p.cumsum(-1) - p >= self.top_p  # likelier tokens hold that probability
        choice = noise.choose(likely.masked_fill(outside, -torch.inf))
        return ids.gather(-1, choice[..., None])[..., 0]

    def penalised(self, logits: Logits, before: Int[Tensor, "B P"] | None) -> Logits:
        """Logits with the repetition penalty; `before` is that of `View`."""
        if self.repetition_penalty == 1 or before is None or not before.numel():
            return logits
        used = torch.zeros_like(logits[:, 0], dtype=torch.long)  # [B, V]
        used = used.scatter_add(1, before.clamp_min(0), (before >= 0).long()) > 0
        factor = torch.where(logits < 0, self.repetition_penalty, 1 / self.repetition_penalty)
        return torch.where(used[:, None], logits * factor, logits)


class FromPosterior(Readout):
    """The logits of p(token | z_t) that the denoiser gives: a commitment head, or an exact posterior.

    Args:
        temperature: temperature of the drawn tokens; 0 takes the likeliest.
    """

    def __init__(self, temperature: float = 0.0) -> None:
        super().__init__()
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}; FromPosterior needs at least 0, which takes the likeliest")
        self.temperature = temperature

    def logits(self, view: View) -> Logits:
        return self.given(view.net.belief_logits(view.belief), view)

    def latent_logits(self, view: View) -> Logits:
        """The codec's: its embeddings are what the belief's mean is made of."""
        return view.codec.decode_logits(view.belief.mean)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        if self.temperature > 0 and noise is not None:
            return noise.choose(self.logits(view), self.temperature)
        return self.given(view.net.belief_ids(view.belief), view)

    def given(self, found: Tensor | None, view: View) -> Tensor:
        """Logits or ids that a net has given; an error without them."""
        if found is None:
            raise ValueError(
                f"the readout FromPosterior needs a denoiser that gives logits, but {type(view.net).__name__} gives "
                "only a mean; give it a commitment head (ELF: commitment_head) or use the readout FromNet, "
                "MatchedFromNet or FromCodec"
            )
        return found
