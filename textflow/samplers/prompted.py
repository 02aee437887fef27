"""Sampling after a prompt: what the network is told, and what of its ids is the answer."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.types import Choice, Denoise, Ids, Latents, Posterior


class Prompt(NamedTuple):
    """What a sample begins with.

    Args:
        clean: its latents; elsewhere they are not read.
        fixed: True where it stands.
        scale: of classifier-free guidance; 1 is none.
    """

    clean: Latents
    fixed: Choice
    scale: float = 1.0


def prompted(denoise: Denoise, clean: Latents, fixed: Choice, scale: float = 1.0) -> Denoise:
    """Beliefs of a denoiser that sees the prompt, u + scale (c - u) with classifier-free guidance (ELF, released code).

    c has the prompt in z and in the self-condition, u has zeros there; the belief keeps the prompt.

    Args:
        denoise: (z, t, prev) -> belief.
        clean: latents of the prompt.
        fixed: True where the prompt stands.
        scale: of classifier-free guidance; 1 is none and costs no second pass.
    """
    stay, nothing = fixed[..., None], torch.zeros_like(clean)

    def told(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
        before = torch.zeros_like(z) if prev is None else prev
        belief = denoise(torch.where(stay, clean, z), t, torch.where(stay, clean, before))
        if scale != 1:
            free = denoise(torch.where(stay, nothing, z), t, torch.where(stay, nothing, before))
            belief = guided(free, belief, scale)
        return belief._replace(mean=torch.where(stay, clean, belief.mean))

    return told


def guided(free: Posterior, belief: Posterior, scale: float) -> Posterior:
    """free + scale (belief - free), of means and of logits where there are some."""
    mean = free.mean + scale * (belief.mean - free.mean)
    if belief.logits is None or free.logits is None:
        return belief._replace(mean=mean)
    return belief._replace(mean=mean, logits=free.logits + scale * (belief.logits - free.logits))


def answer(ids: Ids, fixed: Choice, length: int, fill: int = 0) -> Int[Tensor, "B length"]:
    """ids after each row's prompt, moved to the left [B, length].

    Args:
        ids: prompt and answer.
        fixed: True on the prompt, which comes first.
        length: tokens of an answer.
        fill: id where a row has no more.
    """
    at = torch.arange(length, device=ids.device)[None] + fixed.sum(1, keepdim=True)
    inside = at < ids.shape[1]
    return ids.gather(1, at.clamp_max(ids.shape[1] - 1)).where(inside, fill)


def ended(ids: Ids, eos: int, pad: int) -> Ids:
    """ids with everything from the first EOS on made padding.

    Args:
        ids: tokens.
        eos: id that ends a text.
        pad: id that fills a row.
    """
    return ids.masked_fill((ids == eos).cumsum(1) > 0, pad)
