"""The last hidden states of a frozen T5 encoder."""

import torch
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.frozen import Frozen
from textflow.runtime.atomic import unread
from textflow.types import Ids, Latents, Logits, Mask, Sight

UNSEEN = -3e4  # its exp is 0, and half precision holds it


class T5(Codec):
    """x = (T5 encoder(ids) - mean) / std (ELF, app. B). It has no readout of its own.

    The encoder is loaded when it first encodes: a trained generator samples without it.

    Args:
        vocab: number of tokens (from the tokenizer).
        name: of a model on the Hugging Face Hub, or a local folder.
        dim: width of the encoder.
        mean: of its states.
        std: of its states.
        revision: branch, tag or commit on the Hub.
    """

    here: torch.Tensor

    reads = False

    def __init__(
        self,
        vocab: int,
        name: str = "t5-small",
        dim: int = 512,
        mean: float = 0.0,
        std: float = 0.2,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        self.vocab, self.dim, self.name, self.mean, self.std, self.revision = vocab, dim, name, mean, std, revision
        self.encoder: Frozen | None = None
        self.register_buffer("here", torch.zeros(()), persistent=False)  # knows the device

    def encode(self, ids: Ids, mask: Mask | Sight | None = None) -> Latents:
        if self.encoder is None:
            self.encoder = Frozen(self.load()).to(self.here.device)
        with torch.no_grad():
            states = self.encoder(input_ids=ids, attention_mask=scores(mask)).last_hidden_state
        return (states.float() - self.mean) / self.std

    def load(self) -> nn.Module:
        """The encoder, checked against vocab and dim."""
        from transformers import T5EncoderModel

        try:
            encoder = T5EncoderModel.from_pretrained(
                self.name, revision=self.revision or "main", trust_remote_code=False
            )
        except Exception as error:  # of any kind: what torch makes of torn bytes
            raise ValueError(
                f"no T5 encoder at {self.name!r}: give a name on the Hugging Face Hub or a folder made by "
                f"save_pretrained with --model.codec.name ({unread(error)})"
            ) from error
        config = encoder.config
        if config.d_model != self.dim or config.vocab_size < self.vocab:
            raise ValueError(
                f"the encoder {self.name!r} has width {config.d_model} and {config.vocab_size} tokens, but the recipe "
                f"has dim {self.dim} and a tokenizer of {self.vocab}: set --model.codec.dim or choose its own tokenizer"
            )
        return encoder

    def readout(self, z: Latents) -> Logits:
        raise ValueError(
            "the codec T5 only encodes: read tokens with the readout FromNet and train by the clock LogitNormal"
        )

    @property
    def ready(self) -> bool:
        return True


def scores(mask: Mask | Sight | None) -> Tensor | None:
    """What attention adds to the scores of all heads, [B, 1, 1 or L, L]. Of a mask of this form transformers asks
    nothing, for which the host would wait for a GPU; a CPU asks, since attention to everything is faster.

    Args:
        mask: True on text, or where the query (row) sees the key (column).
    """
    if mask is None or (mask.is_cpu and bool(mask.all())):
        return None
    seen = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    return torch.where(seen, 0.0, UNSEEN)
