"""Sampling after a prompt: its latents, classifier-free guidance by it, and the answer that follows it."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import mask_until_eos, prefix_attention_mask
from textflow.types import Denoise, Ids, Latents, Logits, PositionMask, Posterior

IMPOSSIBLE_LOGIT = -1e4  # of the tokens that a prompt position does not hold


class Prompt(NamedTuple):
    """Tokens that a sample is conditioned on.

    Args:
        latents: clean latents of the prompt; elsewhere they are not read.
        mask: True where the prompt stands.
        cfg_scale: scale of classifier-free guidance; 1 is none.
        ids: token ids of the prompt; elsewhere they are not read. They come back exactly, and escapes commit to them.
        trained: whether the network was trained on prompts; otherwise the replacement method fills them in.
    """

    latents: Latents
    mask: PositionMask
    cfg_scale: float = 1.0
    ids: Ids | None = None
    trained: bool = True

    def restore_prompt_ids(self, ids: Ids) -> Ids:
        """ids with the prompt's own in their place."""
        return ids if self.ids is None else torch.where(self.mask, self.ids, ids)

    def force_prompt_logits(self, logits: Logits) -> Logits:
        """Logits that give the prompt's tokens probability 1."""
        if self.ids is None:
            return logits
        forced = torch.full_like(logits, IMPOSSIBLE_LOGIT).scatter(-1, self.ids[..., None], 0.0)
        return torch.where(self.mask[..., None], forced, logits)


def classifier_free_guidance(
    denoise: Denoise,
    prompt: Prompt,
    z: Latents,
    t: float,
    self_cond: Latents | None = None,
    t_next: float | None = None,
) -> Posterior:
    """u + scale (c - u), c the belief with the prompt in z and in the self-condition, u with zeros there (ELF, released
    code). The belief keeps the prompt; scale 1 costs no second evaluation.

    Args:
        denoise: denoiser without an escape.
        prompt: prompt and its scale.
        z: latents at time t.
        t: their time.
        self_cond: mean of the previous belief.
        t_next: end of the step.
    """
    there, zeros = prompt.mask[..., None], torch.zeros_like(prompt.latents)
    previous = torch.zeros_like(z) if self_cond is None else self_cond
    placed = torch.where(there, prompt.latents, z), torch.where(there, prompt.latents, previous)
    belief = denoise(placed[0], t, placed[1], t_next)
    if prompt.cfg_scale != 1:
        free = denoise(torch.where(there, zeros, z), t, torch.where(there, zeros, previous), t_next)
        belief = extrapolate(free, belief, prompt.cfg_scale)
    return belief._replace(mean=torch.where(there, prompt.latents, belief.mean))


def extrapolate(free: Posterior, belief: Posterior, scale: float) -> Posterior:
    """free + scale (belief - free), of means and of logits where there are some."""
    mean = free.mean + scale * (belief.mean - free.mean)
    if belief.logits is None or free.logits is None:
        return belief._replace(mean=mean)
    return belief._replace(mean=mean, logits=free.logits + scale * (belief.logits - free.logits))


def embed_ids(codec: Codec, ids: Ids, prompt: Prompt | None, special: tuple[int, int] | None) -> Latents:
    """Clean latents of whole rows of tokens.

    Args:
        codec: codec of the generator.
        ids: token ids [B, L].
        prompt: attends to itself alone, and the text after it ends with its EOS.
        special: ids of EOS and padding; None where there is no tokenizer.
    """
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    if prompt is None or prompt.ids is None or not prompt.trained:
        return codec.encode(ids if prompt is None else prompt.restore_prompt_ids(ids), everywhere)
    ids = prompt.restore_prompt_ids(ids)
    mask = everywhere if special is None else mask_until_eos(ids, prompt.mask, *special)
    return codec.encode(ids, prefix_attention_mask(mask, prompt.mask))


def extract_answer(ids: Ids, prompt_mask: PositionMask, length: int, fill: int = 0) -> Int[Tensor, "B length"]:
    """ids after each row's prompt, moved to the left [B, length].

    Args:
        ids: prompt and answer.
        prompt_mask: True on the prompt, which comes first.
        length: tokens of an answer.
        fill: id where a row has no more.
    """
    index = torch.arange(length, device=ids.device)[None] + prompt_mask.sum(1, keepdim=True)
    inside = index < ids.shape[1]
    return ids.gather(1, index.clamp_max(ids.shape[1] - 1)).where(inside, fill)


def pad_after_eos(ids: Ids, eos: int, pad: int) -> Ids:
    """ids with everything from the first EOS on replaced by padding.

    Args:
        ids: token ids.
        eos: id that ends a text.
        pad: id that fills a row.
    """
    return ids.masked_fill((ids == eos).cumsum(1) > 0, pad)
