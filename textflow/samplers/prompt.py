"""Sampling after a prompt: classifier-free guidance or the replacement method, and the answer that follows it."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.paths.base import ProbPath
from textflow.types import Evaluate, Ids, Latents, Logits, Mask, PositionMask, Posterior

IMPOSSIBLE_LOGIT = -1e4  # of the tokens that a prompt position does not hold


class Prompt(NamedTuple):
    """Tokens that a sample is conditioned on.

    Args:
        latents: clean latents of the prompt; elsewhere they are not read.
        mask: True where the prompt stands.
        cfg_scale: scale of classifier-free guidance; 1 is none.
        ids: token ids of the prompt; elsewhere they are not read. They come back exactly, and escapes commit to them.
        trained: whether the network was trained on prompts; otherwise the replacement method fills them in.
        token_mask: True on the prompt's tokens [B, L]; default: `mask`, for a latent per token. A latent of more tokens
            is the prompt's if one of them is (Cola-DLM, released code).
    """

    latents: Latents
    mask: PositionMask
    cfg_scale: float = 1.0
    ids: Ids | None = None
    trained: bool = True
    token_mask: Mask | None = None

    @property
    def known(self) -> Mask:
        """True on the prompt's tokens [B, L]."""
        return self.mask if self.token_mask is None else self.token_mask

    def restore_prompt_ids(self, ids: Ids) -> Ids:
        """ids with the prompt's own in their place."""
        return ids if self.ids is None else torch.where(self.known, self.ids, ids)

    def force_prompt_logits(self, logits: Logits) -> Logits:
        """Logits that give the prompt's tokens probability 1."""
        if self.ids is None:
            return logits
        forced = torch.full_like(logits, IMPOSSIBLE_LOGIT).scatter(-1, self.ids[..., None], 0.0)
        return torch.where(self.known[..., None], forced, logits)


def classifier_free_guidance(
    denoise: Evaluate,
    prompt: Prompt,
    z: Latents,
    t: float,
    self_cond: Latents | None = None,
    t_next: float | None = None,
) -> Posterior:
    """u + scale (c - u), c the belief with the prompt in z and in the self-condition, u with zeros there (ELF, released
    code). The belief keeps the prompt; scale 1 costs no second evaluation. `denoise` has no escape."""
    mask, zeros = prompt.mask[..., None], torch.zeros_like(prompt.latents)
    previous = torch.zeros_like(z) if self_cond is None else self_cond
    belief = denoise(torch.where(mask, prompt.latents, z), t, torch.where(mask, prompt.latents, previous), t_next)
    if prompt.cfg_scale != 1:
        free = denoise(torch.where(mask, zeros, z), t, torch.where(mask, zeros, previous), t_next)
        belief = extrapolate(free, belief, prompt.cfg_scale)
    return belief._replace(mean=torch.where(mask, prompt.latents, belief.mean))


def extrapolate(free: Posterior, belief: Posterior, scale: float) -> Posterior:
    """free + scale (belief - free), of means and of logits where there are some."""
    mean = free.mean + scale * (belief.mean - free.mean)
    if belief.logits is None or free.logits is None:
        return belief._replace(mean=mean)
    return belief._replace(mean=mean, logits=free.logits + scale * (belief.logits - free.logits))


def place_prompt(path: ProbPath, prompt: Prompt, eps: Latents, z: Latents, t: float) -> Latents:
    """z_t with the prompt's latents noised as the path would have noised them, alpha(t) x + sigma(t) eps."""
    return torch.where(prompt.mask[..., None], path.mix(prompt.latents, eps, t), z)


def replacement_belief(
    denoise: Evaluate,
    path: ProbPath,
    prompt: Prompt,
    eps: Latents,
    z: Latents,
    t: float,
    self_cond: Latents | None = None,
    t_next: float | None = None,
) -> Posterior:
    """The belief at z_t with the noised prompt in its place; its mean keeps the prompt clean (2204.03458, sec. 3.1).

    An approximation, for a network that was not trained on prompts: elsewhere z is carried by beliefs under a prompt as
    noisy as the rest, so early steps depend little on it, and the samples do not follow the conditional distribution.
    `denoise` has no escape; eps is the noise of the samples, standard normal [B, S, d].
    """
    belief = denoise(place_prompt(path, prompt, eps, z, t), t, self_cond, t_next)
    return belief._replace(mean=torch.where(prompt.mask[..., None], prompt.latents, belief.mean))


def extract_answer(ids: Ids, prompt_mask: PositionMask, length: int, fill: int = 0) -> Int[Tensor, "B length"]:
    """ids after each row's prompt, which comes first, moved to the left and filled up with `fill`."""
    index = torch.arange(length, device=ids.device)[None] + prompt_mask.sum(1, keepdim=True)
    inside = index < ids.shape[1]
    return ids.gather(1, index.clamp_max(ids.shape[1] - 1)).where(inside, fill)


def pad_after_eos(ids: Ids, eos: int, pad: int) -> Ids:
    """ids with the first EOS and all that follows replaced by padding."""
    return ids.masked_fill((ids == eos).cumsum(1) > 0, pad)
