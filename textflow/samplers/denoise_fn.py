"""DenoiseFn: a network with its conditioning, prompt, early exit and escape; the only thing that a sampler calls."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import mask_until_eos, prefix_attention_mask
from textflow.escapes import Escape
from textflow.nets import Denoiser
from textflow.noise import Noise
from textflow.paths.base import ProbPath, Time
from textflow.readouts import Readout, View
from textflow.samplers.early_exit import EarlyExit, ExitState
from textflow.samplers.prompt import Prompt, classifier_free_guidance, place_prompt, replacement_belief
from textflow.types import Conditioning, Ids, Latents, Logits, PositionMask, Posterior, Times


class TokenContext(NamedTuple):
    """Positions whose time is not that of the others, as in the order Grouped.

    Args:
        x: clean latents of the known positions [B, S, d]; elsewhere they are not read.
        known: True on positions that are clean, at the clean end of time [B, S].
        later: True on positions that are noise, at the noisy end [B, S].
        start: latents at the noisy end [B, S, d].
        t_start: their time.
    """

    x: Latents
    known: PositionMask
    later: PositionMask
    start: Latents
    t_start: float

    def place(self, path: ProbPath, z: Latents, t: float) -> tuple[Latents, Times]:
        """Latents with all three kinds of positions in their places, and the time of each [B, S]."""
        clean = path.alpha_sigma(path.t_max)[0] * self.x
        z = torch.where(self.known[..., None], clean, torch.where(self.later[..., None], self.start, z))
        times = z.new_full(z.shape[:2], t).masked_fill(self.known, path.t_max)
        return z, times.masked_fill(self.later, self.t_start)


@dataclass(frozen=True)
class DenoiseFn:
    """z_t -> belief about the text: network, then prompt, then early exit, then escape.

    Args:
        net: denoising network.
        codec: embeds what an escape commits to.
        path: probability path that the latents follow.
        token_readout: logits of p(token | z_t), by which an escape and an early exit choose.
        guidance: self-conditioning guidance scale.
        prompt: known tokens.
        start: latents at the noisy end, whose noise the replacement method gives the prompt.
        escape: categorical choice before the readout; None leaves the posterior mean.
        noise: random streams, one a sample; without them neither the escape nor the early exit acts.
        early_exit: rule by which settled rows skip the network.
        special: ids of EOS and padding; None without a tokenizer.
        t_last: last end of a step that a flow map has learned; steps beyond it are conditioned on it.
        context: positions that are clean, or still noise, while the others are denoised.
    """

    net: Denoiser
    codec: Codec
    path: ProbPath
    token_readout: Readout
    guidance: float = 1.0
    prompt: Prompt | None = None
    start: Latents | None = None
    escape: Escape | None = None
    noise: Noise | None = None
    early_exit: EarlyExit | None = None
    special: tuple[int, int] | None = None
    t_last: float = math.inf
    context: TokenContext | None = None

    def __call__(
        self, z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior:
        """The belief at z_t, with what the escape commits to in its mean."""
        belief = self.posterior(z, t, self_cond, t_next, carry)
        if self.escape is None or self.noise is None:
            return belief
        token_logits = partial(self.choice_logits, z, t, belief)
        return self.escape(belief, self.path.fraction(t), token_logits, self.embed, self.noise)

    def posterior(
        self, z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior:
        """The belief at z_t before the escape."""
        if self.early_exit is not None and self.noise is not None:
            assert carry is None or isinstance(carry, ExitState)
            return self.early_exit(self.evaluate, self.token_logits, self.path, z, t, self_cond, t_next, carry)
        if self.prompt is None:
            return self.evaluate(z, t, self_cond, t_next)
        if self.prompt.trained:
            return classifier_free_guidance(self.evaluate, self.prompt, z, t, self_cond, t_next)
        return replacement_belief(self.evaluate, self.path, self.prompt, self.eps, z, t, self_cond, t_next)

    def evaluate(self, z: Latents, t: Time, self_cond: Latents | None = None, t_next: float | None = None) -> Posterior:
        """One evaluation of the network, at one time t for all rows or at times t [B] or [B, S]."""
        if self.context is not None and not isinstance(t, Tensor):
            z, t = self.context.place(self.path, z, t)
        times = t if isinstance(t, Tensor) else torch.full((len(z),), t, dtype=z.dtype, device=z.device)
        end = None if t_next is None else torch.full_like(times, min(t_next, self.t_last))
        if end is not None and self.context is not None:  # the other positions have steps of length 0
            end = torch.where(self.context.known | self.context.later, times, end)
        return self.net(z, times, self.conditioning(z)._replace(self_cond=self_cond, end_time=end))

    def conditioning(self, z: Latents) -> Conditioning:
        """Guidance scale and prompt of all rows, as the network and the readouts take them."""
        guidance = z.new_full((len(z),), self.guidance)
        if self.prompt is None or not self.prompt.trained:
            return Conditioning(guidance=guidance)
        return Conditioning(guidance=guidance, prompt=self.prompt.latents, prompt_mask=self.prompt.mask)

    def view(self, z: Latents, t: float, belief: Posterior, before: Ids | None = None) -> View:
        """A readout's inputs; the arguments are those of `View`."""
        return View(z, t, belief, self.path, self.codec, self.net, self.conditioning(z), before)

    def choice_logits(self, z: Latents, t: float, belief: Posterior) -> Logits:
        """Logits by which an escape chooses: `token_logits`, or those that the early exit has computed."""
        computed = None if self.early_exit is None else belief.logits
        return self.token_logits(z, t, belief) if computed is None else computed

    def token_logits(self, z: Latents, t: float, belief: Posterior) -> Logits:
        """Logits of p(token | z_t, prompt), guided as the beliefs are; prompt tokens get probability 1."""
        prompt = self.prompt
        if prompt is not None and not prompt.trained:
            z = place_prompt(self.path, prompt, self.eps, z, t)
        view = self.view(z, t, belief)
        logits = self.token_readout.logits(view)
        if prompt is None:
            return logits
        if prompt.trained and prompt.cfg_scale != 1:
            blank = view.cond._replace(prompt=torch.zeros_like(prompt.latents))
            free = self.token_readout.logits(view._replace(cond=blank))
            logits = free + prompt.cfg_scale * (logits - free)
        return prompt.force_prompt_logits(logits)

    def embed(self, ids: Ids) -> Latents:
        """Clean latents of rows of tokens; a trained prompt attends to itself alone, and the text ends at its EOS."""
        if self.prompt is not None:
            ids = self.prompt.restore_prompt_ids(ids)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if self.prompt is None or self.prompt.ids is None or not self.prompt.trained:
            return self.codec.encode(ids, mask)
        if self.special is not None:
            mask = mask_until_eos(ids, self.prompt.known, *self.special)
        return self.codec.encode(ids, prefix_attention_mask(mask, self.prompt.known))

    @cached_property
    def eps(self) -> Latents:
        """Standard normal noise of the samples, for the replacement method."""
        assert self.start is not None, "the replacement method needs the samples' noise"
        return self.start / self.path.alpha_sigma(self.path.t_min)[1]
