"""Readouts of the belief alone: the codec's decoder, or the denoiser's own token logits."""

import torch
from torch import Tensor

from textflow.noise import Noise
from textflow.readouts.base import Readout, View
from textflow.types import Ids, Logits


class FromCodec(Readout):
    """The codec decodes E[x | z_t].

    Args:
        repetition_penalty: divides the logits above 0 of tokens in the blocks before, and multiplies those below
            (1909.05858), where text is read block after block; 1 is none (Cola-DLM: 1.1).
    """

    def __init__(self, repetition_penalty: float = 1.0) -> None:
        super().__init__()
        if repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty is {repetition_penalty}; needs a factor above 0, 1 for none")
        self.repetition_penalty = repetition_penalty

    def logits(self, view: View) -> Logits:
        return view.codec.decode_logits(view.belief.mean)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        logits = self.logits(view)
        if self.repetition_penalty == 1 or view.before is None or not view.before.numel():
            return logits.argmax(-1)
        used = torch.zeros_like(logits[:, 0], dtype=torch.long)  # [B, V]
        used = used.scatter_add(1, view.before.clamp_min(0), (view.before >= 0).long()) > 0
        factor = torch.where(logits < 0, self.repetition_penalty, 1 / self.repetition_penalty)
        return torch.where(used[:, None], logits * factor, logits).argmax(-1)


class FromPosterior(Readout):
    """The logits of p(token | z_t) that the denoiser gives: a commitment head, or an exact posterior."""

    def logits(self, view: View) -> Logits:
        return self.given(view.net.belief_logits(view.belief), view)

    def latent_logits(self, view: View) -> Logits:
        """The codec's: its embeddings are what the belief's mean is made of."""
        return view.codec.decode_logits(view.belief.mean)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
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
