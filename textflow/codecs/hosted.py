"""Codecs whose latents are the last hidden states of a frozen encoder from the Hugging Face Hub: T5 and BERT."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.frozen import Frozen
from textflow.runtime.atomic import describe_error
from textflow.types import AttentionMask, Ids, Latents, Logits, Mask

MASKED_BIAS = -3e4  # its exp is 0, and it is finite in half precision


class HostedEncoder(Codec):
    """x = (encoder(ids) - mean) / std. It has no decoder.

    The encoder is loaded at the first call of `encode`: a trained generator samples without it.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        name: name of a model on the Hugging Face Hub, or a local folder.
        dim: width of the encoder's hidden states.
        mean: mean of the hidden states.
        std: standard deviation of the hidden states, > 0.
        revision: branch, tag or commit on the Hub.
    """

    kind: ClassVar[str]  # family of the encoder, for messages
    auto_class: ClassVar[str]  # class of transformers that loads it
    device_marker: torch.Tensor
    has_decoder = False
    option = "--model.codec"  # where a recipe sets its arguments

    def __init__(
        self, vocab_size: int, name: str, dim: int, mean: float = 0.0, std: float = 1.0, revision: str | None = None
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.mean, self.std = vocab_size, dim, mean, std
        self.name, self.revision = name, revision
        self.encoder: Frozen | None = None
        self.register_buffer("device_marker", torch.zeros(()), persistent=False)  # follows the device

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        if self.encoder is None:
            self.encoder = Frozen(self.load()).to(self.device_marker.device)
        with torch.no_grad():
            states = self.encoder(input_ids=ids, attention_mask=attention_bias(mask)).last_hidden_state
        return (states.float() - self.mean) / self.std

    def load(self) -> nn.Module:
        """The encoder, checked against vocab_size and dim."""
        import transformers

        try:
            encoder = getattr(transformers, self.auto_class).from_pretrained(
                self.name, revision=self.revision or "main", trust_remote_code=False
            )
        except Exception as error:  # damaged files raise errors of any class
            raise ValueError(
                f"no {self.kind} encoder at {self.name!r}: give a name on the Hugging Face Hub or a folder made by "
                f"save_pretrained with {self.option}.name ({describe_error(error)})"
            ) from error
        width, tokens = encoder.config.hidden_size, encoder.config.vocab_size
        if width != self.dim or tokens < self.vocab_size:
            raise ValueError(
                f"the encoder {self.name!r} has width {width} and {tokens} tokens, but the recipe "
                f"has dim {self.dim} and a tokenizer of {self.vocab_size}: set {self.option}.dim or choose the "
                "encoder's tokenizer"
            )
        return encoder

    def decode_logits(self, z: Latents) -> Logits:
        raise ValueError(
            f"the codec {type(self).__name__} has no decoder: use the readout FromNet and train with the schedule "
            "LogitNormal"
        )


class T5Codec(HostedEncoder):
    """x = (T5 encoder(ids) - mean) / std (ELF, app. B). It has no decoder.

    The encoder is loaded at the first call of `encode`: a trained generator samples without it.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        name: name of a model on the Hugging Face Hub, or a local folder.
        dim: width of the encoder's hidden states.
        mean: mean of the hidden states.
        std: standard deviation of the hidden states, > 0.
        revision: branch, tag or commit on the Hub.
    """

    kind, auto_class = "T5", "T5EncoderModel"

    def __init__(
        self,
        vocab_size: int,
        name: str = "t5-small",
        dim: int = 512,
        mean: float = 0.0,
        std: float = 0.2,
        revision: str | None = None,
    ) -> None:
        super().__init__(vocab_size, name, dim, mean, std, revision)


class BertCodec(HostedEncoder):
    """x = (BERT(ids) - mean) / std, of any bidirectional encoder that transformers reads (Cosmos, 2506.21170; DiLaDiff,
    2605.23605). It has no decoder; CosmosCodec resamples its states and decodes them.

    The encoder is loaded at the first call of `encode`: a trained generator samples without it.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        name: name of a model on the Hugging Face Hub, or a local folder.
        dim: width of the encoder's hidden states.
        mean: mean of the hidden states.
        std: standard deviation of the hidden states, > 0.
        revision: branch, tag or commit on the Hub.
        mask_id: id of the token that hides others ([MASK]).
    """

    kind, auto_class = "BERT", "AutoModel"

    def __init__(
        self,
        vocab_size: int,
        name: str = "bert-base-uncased",
        dim: int = 768,
        mean: float = 0.0,
        std: float = 1.0,
        revision: str | None = None,
        mask_id: int = 103,
    ) -> None:
        super().__init__(vocab_size, name, dim, mean, std, revision)
        self.mask_id = mask_id

    def masked_states(self, length: int) -> Latents:
        """States of a row whose tokens are all hidden [1, L, d]."""
        return self.encode(torch.full((1, length), self.mask_id, device=self.device_marker.device))


def attention_bias(mask: Mask | AttentionMask | None) -> Tensor | None:
    """Additive attention bias [B, 1, 1 or L, L]; None for no bias. transformers does not inspect a mask of this form,
    so the host does not wait for a GPU; on a CPU the mask is checked, since attention without a bias is faster."""
    if mask is None or (mask.is_cpu and bool(mask.all())):
        return None
    attends = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    return torch.where(attends, 0.0, MASKED_BIAS)
