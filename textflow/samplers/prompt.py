"""Sampling after a prompt: what the network is told, and what of its ids is the answer."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.types import Choice, Denoise, Ids, Latents, Logits, Posterior

NEVER = -1e4  # logit of the tokens that a given position does not hold


class Prompt(NamedTuple):
    """What a sample begins with.

    Args:
        clean: its latents; elsewhere they are not read.
        fixed: True where it stands.
        scale: of classifier-free guidance; 1 is none.
        ids: its tokens; elsewhere they are not read. They come back exactly, and escapes take them for chosen.
        trained: whether the net was trained on prompts; otherwise it is filled in by replacement (`replaced`).
    """

    clean: Latents
    fixed: Choice
    scale: float = 1.0
    ids: Ids | None = None
    trained: bool = True

    def settle(self, ids: Ids) -> Ids:
        """ids with the given ones in their place."""
        return ids if self.ids is None else torch.where(self.fixed, self.ids, ids)

    def certain(self, logits: Logits) -> Logits:
        """logits that leave no doubt of the given tokens."""
        if self.ids is None:
            return logits
        told = torch.full_like(logits, NEVER).scatter(-1, self.ids[..., None], 0.0)
        return torch.where(self.fixed[..., None], told, logits)


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


def spoken(tokens: Callable[..., Logits], prompt: Prompt, z: Latents, t: float, belief: Posterior) -> Logits:
    """Logits of p(token | z_t, prompt), guided as the beliefs are; the given tokens leave no doubt.

    Args:
        tokens: z, t, belief and the prompt's latents (default: its own) -> logits.
        prompt: what is given.
        z: state.
        t: its time.
        belief: at z_t.
    """
    logits = tokens(z, t, belief)
    if prompt.trained and prompt.scale != 1:
        free = tokens(z, t, belief, torch.zeros_like(prompt.clean))
        logits = free + prompt.scale * (logits - free)
    return prompt.certain(logits)


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
