"""Sampling of a generator: noise -> latents -> text, freely or around a prompt."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import prefix_attention_mask
from textflow.escapes import Escape
from textflow.models.generation import TextGenerator
from textflow.models.infilling import refuse_prompt
from textflow.nets import Denoiser
from textflow.noise import Noise
from textflow.objectives import Objective
from textflow.paths import ProbPath
from textflow.readouts import Readout, View
from textflow.samplers import DenoiseFn, EarlyExit, Order, Prompt, Sample, Sampler
from textflow.schedules import TimeSchedule
from textflow.schedules.base import require_times
from textflow.types import Conditioning, Ids, Latents, Logits, Mask, Posterior


class GeneratorSampling(TextGenerator, ABC):
    """The half of a generator that samples; the parts are set by `Generator`."""

    ema_net: Denoiser
    objective: Objective
    path: ProbPath
    token_readout: Readout
    escape: Escape
    sampler: Sampler
    order: Order
    self_cond_guidance: float
    early_exit: EarlyExit | None
    cfg_scale: float | None

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """Codec of the samples."""

    @property
    @abstractmethod
    def sampling_net(self) -> Denoiser:
        """Averaged net of the samples, on the latents of `codec`."""

    @property
    @abstractmethod
    def readout(self) -> Readout:
        """Readout of the samples."""

    @property
    @abstractmethod
    def sampling_schedule(self) -> TimeSchedule:
        """Schedule of the sampling times."""

    def denoiser(
        self,
        self_cond_guidance: float | None = None,
        escape: Escape | None = None,
        noise: Noise | None = None,
        prompt: Prompt | None = None,
        start: Latents | None = None,
        text: Latents | None = None,
    ) -> DenoiseFn:
        """The averaged net with guidance, prompt and escape: what samplers and diagnostics call.

        Args:
            self_cond_guidance: self-conditioning guidance scale; default: the recipe's.
            escape: categorical choice before the readout; default: none.
            noise: random streams, one a sample; escapes need them.
            prompt: known tokens.
            start: latents at the noisy end, for a net that was not trained on prompts.
            text: clean latents whose noised ones are denoised; with the order Blockwise each block follows its own.
        """
        if prompt is not None and self.early_exit is not None:
            raise ValueError("an early exit skips rows, but a prompt needs all of them; leave model.early_exit out")
        scale = self.self_cond_guidance if self_cond_guidance is None else self_cond_guidance
        reads = prompt is not None or self.order.reads_prompts
        tokenizer = self.text_format.tokenizer if reads else None  # a tokenizer of the Hub loads where it is used
        special = None if tokenizer is None else (tokenizer.eos, tokenizer.pad)
        parts = self.sampling_net, self.codec, self.path, self.token_readout
        last = self.objective.time_schedule.t_last
        denoise = DenoiseFn(*parts, scale, prompt, start, escape, noise, self.early_exit, special, last)
        return denoise if text is None else self.order.after_text(denoise, text)

    def embed(self, ids: Ids) -> Latents:
        """Clean latents of rows of tokens."""
        return self.denoiser().embed(ids)

    def decode_logits(self, z: Latents, cond: Conditioning | None = None) -> Logits:
        """The readout's logits of final latents [B, L, V].

        Args:
            z: latents [B, S, d].
            cond: guidance and prompt; default: the recipe's guidance.
        """
        cond = self.denoiser().conditioning(z) if cond is None else cond
        view = View(z, self.path.t_max, Posterior(z), self.path, self.codec, self.sampling_net, cond)
        return self.readout.latent_logits(view)

    def logits_fn(self, prompt: Prompt | None, text: Latents | None = None) -> Callable[[Latents], Logits]:
        """`decode_logits` after a prompt, and in the context of a text as in `denoiser`, row by row."""
        denoise = self.denoiser(prompt=prompt, text=text)

        def logits(z: Latents) -> Logits:
            return self.readout.latent_logits(denoise.view(z, self.path.t_max, Posterior(z)))

        return logits

    def initial_noise(self, seeds: list[int], length: int | None = None) -> tuple[Latents, Noise]:
        """Latents at the noisy end [B, S, d], and the random streams that continue from there.

        Args:
            seeds: random seeds, one a sample.
            length: tokens of a text; default: the length of training.
        """
        noise = Noise(seeds)
        count = self.codec.num_latents(self.text_format.seq_length if length is None else length)
        z = noise.normal(count, self.codec.dim).to(self.device)
        return self.path.mix(torch.zeros_like(z), z, self.path.t_min), noise

    @torch.no_grad()
    def sample(
        self,
        seeds: list[int],
        num_steps: int = 32,
        sampler: Sampler | None = None,
        self_cond_guidance: float | None = None,
        length: int | None = None,
        escape: Escape | None = None,
        sampling_schedule: TimeSchedule | None = None,
        prompt: Prompt | None = None,
    ) -> Sample:
        """One sample per seed: ids [B, L] and the trace.

        Args:
            seeds: random seeds, one a sample.
            num_steps: number of sampling steps.
            sampler: rule for one step; default: the recipe's.
            self_cond_guidance: self-conditioning guidance scale; default: the recipe's.
            length: tokens of a text; default: the length of training, or of the prompt's rows.
            escape: categorical choice before the readout; default: the recipe's.
            sampling_schedule: schedule of the times; default: the recipe's.
            prompt: known tokens, in rows of as many tokens as the sample; `extract_answer` cuts the ids after it.
        """
        self.eval()
        length = length if prompt is None else prompt.known.shape[1]
        z, noise = self.initial_noise(seeds, length)
        schedule = sampling_schedule or self.sampling_schedule
        require_times([schedule], self.path)
        times = schedule.grid(num_steps, t_min=self.path.t_min, t_max=self.path.t_max)
        denoise = self.denoiser(self_cond_guidance, escape or self.escape, noise, prompt, z)
        ids, trace = self.order.sample(denoise, self.readout, sampler or self.sampler, times, z, noise)
        return Sample(ids if prompt is None else prompt.restore_prompt_ids(ids), trace)

    def sample_ids(self, seeds: list[int], num_steps: int, **options: Any) -> Ids:
        return self.sample(seeds, num_steps, **options).ids

    @torch.no_grad()
    def make_prompt(self, ids: Ids, prompt_mask: Mask, cfg_scale: float | None = None) -> Prompt:
        """A prompt's latents; it attends to itself alone.

        Args:
            ids: token ids, rows of a sample's length [B, L].
            prompt_mask: True on the prompt; for a run that was trained on pairs it comes first.
            cfg_scale: scale of classifier-free guidance; default: the recipe's. 1 is none.
        """
        trained = self.text_format.max_source_length is not None
        read = trained or self.order.reads_prompts
        refuse_prompt(None if self.order.reads_prompts else self.codec, ids.shape[1], None if trained else cfg_scale)
        scale = (self.cfg_scale or 1.0) if cfg_scale is None else cfg_scale
        latents = self.codec.encode(ids, prefix_attention_mask(prompt_mask, prompt_mask))
        known = self.codec.latent_mask(prompt_mask)
        return Prompt(latents, known, scale if trained else 1.0, ids, read, prompt_mask)

    def complete(
        self,
        ids: Ids,
        prompt_mask: Mask,
        seeds: list[int],
        num_steps: int = 32,
        sampler: Sampler | None = None,
        self_cond_guidance: float | None = None,
        cfg_scale: float | None = None,
        escape: Escape | None = None,
        sampling_schedule: TimeSchedule | None = None,
    ) -> Ids:
        """Token ids [B, L] with all but the prompt filled in, one sample per row; the prompt comes back exactly.

        Args:
            cfg_scale: scale of classifier-free guidance by the prompt; default: the recipe's.

        The other arguments are those of `TextGenerator.complete` and `sample`.
        """
        prompt = self.make_prompt(ids.to(self.device), prompt_mask.to(self.device), cfg_scale)
        return self.sample(seeds, num_steps, sampler, self_cond_guidance, None, escape, sampling_schedule, prompt).ids
