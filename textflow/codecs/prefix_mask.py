"""Masks for rows that begin with a prompt: attention, text and dropped prompts."""

import torch
from jaxtyping import Bool
from torch import Tensor

from textflow.types import AttentionMask, Batch, Ids, Latents, Mask, RowMask


def prefix_attention_mask(mask: Mask, prompt_mask: Mask, dropped: RowMask | None = None) -> Bool[Tensor, "B L L"]:
    """True where the query (row) attends to the key (column): a prompt to itself, the rest to all text, but not to the
    prompt in dropped rows (ELF)."""
    hidden = torch.zeros_like(mask[:, 0]) if dropped is None else dropped
    prompt, rest = prompt_mask & mask, mask & ~(prompt_mask & hidden[:, None])
    return torch.where(prompt_mask[:, :, None], prompt[:, None], rest[:, None])


def encoder_mask(batch: Batch) -> Mask | AttentionMask:
    """Attention mask of an encoder: a prompt attends to itself alone, all other tokens to the whole text."""
    if batch.prompt_mask is None:
        return batch.mask
    return prefix_attention_mask(batch.mask, batch.prompt_mask, batch.dropped)


def mask_until_eos(ids: Ids, prompt_mask: Mask, eos: int, pad: int) -> Mask:
    """True on text: the prompt and the answer up to its EOS, which is excluded if EOS is also the padding."""
    ends = (ids == eos) & ~prompt_mask
    before = ends.cumsum(1) - ends.long()  # number of EOS tokens to the left
    return prompt_mask | ((before == 0) & ~(ends & (eos == pad)))


def zero_prompt(x: Latents, prompt_mask: Mask, dropped: RowMask) -> Latents:
    """Latents with a zero prompt in dropped rows: the unconditional input of classifier-free guidance (ELF). x is
    encoded with `prefix_attention_mask(..., dropped)`."""
    return x.masked_fill((prompt_mask & dropped[:, None])[..., None], 0.0)
