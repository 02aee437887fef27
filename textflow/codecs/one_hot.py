"""One-hot tokens as latents."""

import torch.nn.functional as F

from textflow.codecs.base import Codec
from textflow.types import AttentionMask, Ids, Latents, Logits, Mask


class OneHot(Codec):
    """x = one-hot(token), as wide as the vocabulary (FLM, 2602.16813); decoding takes the largest coordinate.

    Args:
        vocab_size: number of tokens (from the tokenizer).
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = self.dim = vocab_size

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return F.one_hot(ids, self.vocab_size).float()

    def decode_logits(self, z: Latents) -> Logits:
        return z

    def expected_latents(self, probs: Logits) -> Latents:
        return probs
