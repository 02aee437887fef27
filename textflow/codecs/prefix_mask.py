"""Encoding rows that begin with a prompt: who sees whom, and what is left where the prompt is dropped."""

import torch
from jaxtyping import Bool
from torch import Tensor

from textflow.types import Ids, Latents, Mask, Rows


def sight(mask: Mask, fixed: Mask, dropped: Rows | None = None) -> Bool[Tensor, "B L L"]:
    """True where the query (row) sees the key (column): a prompt sees itself alone, the rest sees all text (ELF).

    Args:
        mask: True on text.
        fixed: True on the prompt.
        dropped: rows whose prompt nothing but the prompt sees; default: none.
    """
    lost = torch.zeros_like(mask[:, 0]) if dropped is None else dropped
    prompt, rest = fixed & mask, mask & ~(fixed & lost[:, None])
    return torch.where(fixed[:, :, None], prompt[:, None], rest[:, None])


def unended(ids: Ids, fixed: Mask, eos: int, pad: int) -> Mask:
    """True on text: the prompt, and what comes after it up to its EOS; where EOS is the padding, without it.

    Args:
        ids: prompt and answer.
        fixed: True on the prompt.
        eos: id that ends a text.
        pad: id that fills a row.
    """
    ends = (ids == eos) & ~fixed
    before = ends.cumsum(1) - ends.long()  # ends to the left
    return fixed | ((before == 0) & ~(ends & (eos == pad)))


def blank(x: Latents, fixed: Mask, dropped: Rows) -> Latents:
    """Latents whose prompt is 0 in the dropped rows: what classifier-free guidance calls unconditional (ELF).

    Args:
        x: clean latents, encoded with `sight(..., dropped)`.
        fixed: True on the prompt.
        dropped: rows that lose it.
    """
    return x.masked_fill((fixed & dropped[:, None])[..., None], 0.0)
