"""Readouts of the belief alone: the codec's decoder, or the denoiser's own token logits."""

from textflow.readouts.base import Readout, View
from textflow.types import Logits


class FromCodec(Readout):
    """The codec decodes E[x | z_t]."""

    def logits(self, view: View) -> Logits:
        return view.codec.decode_logits(view.belief.mean)


class FromPosterior(Readout):
    """The logits of p(token | z_t) that the denoiser gives: a commitment head, or an exact posterior."""

    def logits(self, view: View) -> Logits:
        if view.belief.logits is None:
            raise ValueError(
                f"the readout FromPosterior needs a denoiser that gives logits, but {type(view.net).__name__} gives "
                "only a mean; give it a commitment head (ELF: commitment_head) or use the readout FromNet, "
                "MatchedFromNet or FromCodec"
            )
        return view.belief.logits
