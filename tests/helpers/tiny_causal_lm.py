"""A tiny causal language model."""

from functools import partial
from typing import Any

import torch
from torch.optim import AdamW

from textflow.models.causal_lm import CausalLM


def tiny_causal_lm(vocab: int = 5, **options: Any) -> CausalLM:
    """One block of width 16 for texts of at most 12 tokens."""
    torch.manual_seed(0)
    return CausalLM(vocab, width=16, depth=1, heads=2, max_length=12, optimizer=partial(AdamW, lr=3e-2), **options)
