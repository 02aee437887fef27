"""The replacement method: known tokens for a network that was not trained on prompts, an approximation."""

import torch

from textflow.paths.base import ProbPath
from textflow.samplers.prompt import Prompt
from textflow.types import Denoise, Latents, Posterior


def place_prompt(path: ProbPath, prompt: Prompt, eps: Latents, z: Latents, t: float) -> Latents:
    """z_t with the prompt's latents noised as the path would have noised them, alpha(t) x + sigma(t) eps."""
    return torch.where(prompt.mask[..., None], path.mix(prompt.latents, eps, t), z)


def replacement_belief(
    denoise: Denoise,
    path: ProbPath,
    prompt: Prompt,
    eps: Latents,
    z: Latents,
    t: float,
    self_cond: Latents | None = None,
    t_next: float | None = None,
) -> Posterior:
    """The belief at z_t with the noised prompt in its place; its mean keeps the prompt clean (2204.03458, sec. 3.1).

    An approximation: the beliefs that carry z elsewhere see the prompt as noisy as all else, so early steps know little
    of it, and the law of samples is not the conditional one.

    Args:
        denoise: denoiser without an escape.
        path: probability path that the latents follow.
        prompt: known latents.
        eps: noise of the samples, standard normal [B, S, d].
        z: latents at time t.
        t: their time.
        self_cond: mean of the previous belief.
        t_next: end of the step.
    """
    belief = denoise(place_prompt(path, prompt, eps, z, t), t, self_cond, t_next)
    return belief._replace(mean=torch.where(prompt.mask[..., None], prompt.latents, belief.mean))
