"""The codec's decoder."""

from textflow.readouts.base import Readout, View
from textflow.types import Logits


class FromCodec(Readout):
    """The codec decodes E[x | z_t]."""

    def logits(self, view: View) -> Logits:
        return view.codec.decode_logits(view.belief.mean)
