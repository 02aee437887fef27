"""Sampling: the half of a generator that turns noise into text; what it samples by, it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import sight, unended
from textflow.escapes import Escape
from textflow.models.base import Trainable
from textflow.models.denoise_fn import End, Escaped
from textflow.nets import Denoiser
from textflow.noise import Noise
from textflow.paths import Path
from textflow.readouts import Readout
from textflow.samplers import EarlyStop, Sampler, Trace, sample
from textflow.samplers.prompt import Prompt, prompted, spoken
from textflow.samplers.replacement import Replaced
from textflow.schedules import Clock
from textflow.types import Given, Ids, Latents, Logits, Posterior


class Sample(NamedTuple):
    """Token ids, and the way to them."""

    ids: Ids
    trace: Trace


class Sampling(Trainable, ABC):
    """Noise -> latents -> text, by parts that the subclass sets."""

    codec: Codec
    twin: Denoiser
    path: Path
    readout: Readout
    tokens: Readout
    escape: Escape
    sampler: Sampler
    guidance: float
    stop: EarlyStop | None

    @property
    @abstractmethod
    def grid(self) -> Clock:
        """The law of sampling times."""

    def denoiser(
        self,
        guidance: float | None = None,
        escape: Escape | None = None,
        noise: Noise | None = None,
        prompt: Prompt | None = None,
        start: Latents | None = None,
    ) -> Escaped:
        """escape after the averaged net: all that samplers see.

        Args:
            guidance: scale w; default: the recipe's.
            escape: default: none, the bare net.
            noise: the samples' own streams; needed by an escape.
            prompt: what is given, and how much it guides.
            start: z at t = 0, for a net that was not trained on prompts.
        """
        if prompt is not None and self.stop is not None:
            raise ValueError("an early stop asks about some rows, a prompt is of all of them; leave model.stop out")

        end = End()

        def bare(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
            told = self.told(z, guidance, prompt)._replace(prev=prev)
            if end.until is not None:
                told = told._replace(until=z.new_full((len(z),), end.until))
            return self.twin(z, torch.full((len(z),), t, dtype=z.dtype, device=z.device), told)

        def tokens(z: Latents, t: float, belief: Posterior, clean: Latents | None = None) -> Logits:
            told = self.told(z, guidance, prompt)
            return self.read(self.tokens, z, t, belief, told if clean is None else told._replace(clean=clean))

        if prompt is None:
            return Escaped(bare, tokens, escape, self.embed, noise, self.stop, end)
        embed = partial(self.embed, prompt=prompt)
        if prompt.trained:
            guided = prompted(bare, prompt.clean, prompt.fixed, prompt.scale)
            return Escaped(guided, partial(spoken, tokens, prompt), escape, embed, noise, None, end)
        assert start is not None, "the noise of given latents is that of the sample"
        known = Replaced(bare, self.path, prompt.clean, prompt.fixed, start)
        return Escaped(known, known.reading(partial(spoken, tokens, prompt)), escape, embed, noise, None, end)

    def told(self, z: Latents, guidance: float | None = None, prompt: Prompt | None = None) -> Given:
        """Guidance scale and prompt, as the net and its readouts are told them at z."""
        w = z.new_full((len(z),), self.guidance if guidance is None else guidance)
        return Given(w=w, clean=prompt.clean, fixed=prompt.fixed) if prompt and prompt.trained else Given(w=w)

    def embed(self, ids: Ids, prompt: Prompt | None = None) -> Latents:
        """Clean latents of tokens.

        Args:
            ids: of whole rows.
            prompt: is seen by itself alone, and what comes after it ends with its EOS.
        """
        whole = torch.ones_like(ids, dtype=torch.bool)
        if prompt is None or prompt.ids is None or not prompt.trained:
            return self.codec.encode(ids if prompt is None else prompt.settle(ids), whole)
        ids, words = prompt.settle(ids), self.tokenizer
        mask = whole if words is None else unended(ids, prompt.fixed, words.eos, words.pad)
        return self.codec.encode(ids, sight(mask, prompt.fixed))

    def read(self, readout: Readout, z: Latents, t: float, belief: Posterior, given: Given) -> Logits:
        """What a readout says of the belief at z_t."""
        return readout(z, t, belief, self.path, self.codec, self.twin, given)

    def logits(self, z: Latents, given: Given | None = None) -> Logits:
        """The readout's logits of final latents.

        Args:
            z: latents.
            given: guidance and prompt; default: the recipe's guidance.
        """
        return self.read(self.readout, z, 1.0, Posterior(z), self.told(z) if given is None else given)

    def reader(self, prompt: Prompt | None) -> Callable[[Latents], Logits]:
        """`logits` after a prompt.

        Args:
            prompt: of as many rows as are read; None is none.
        """
        return lambda z: self.logits(z, self.told(z, prompt=prompt))

    def start(self, seeds: list[int], length: int | None = None) -> tuple[Latents, Noise]:
        """Latents at t = 0, and the streams that go on from there.

        Args:
            seeds: one a sample.
            length: latents; default: the length of training.
        """
        noise = Noise(seeds)
        z = noise.normal(self.length if length is None else length, self.codec.dim).to(self.device)
        return self.path.mix(torch.zeros_like(z), z, 0.0), noise

    @torch.no_grad()
    def sample(
        self,
        seeds: list[int],
        steps: int = 32,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        length: int | None = None,
        escape: Escape | None = None,
        grid: Clock | None = None,
        prompt: Prompt | None = None,
    ) -> Sample:
        """One sample a seed: ids [B, L] and the trace.

        Args:
            seeds: one a sample.
            steps: of the grid.
            sampler: default: the recipe's.
            guidance: scale w; default: the recipe's.
            length: tokens; default: the length of training, or of the prompt's rows.
            escape: default: the recipe's.
            grid: of the times; default: the recipe's.
            prompt: what is given; its latents are as many as the sample's. `answer` cuts the ids after it.
        """
        self.eval()
        length = length if prompt is None else prompt.clean.shape[1]
        (z, noise), times = self.start(seeds, length), (grid or self.grid).grid(steps)
        denoise, told = self.denoiser(guidance, escape or self.escape, noise, prompt, z), self.told(z, guidance, prompt)
        way, last = sampler or self.sampler, denoise.inner
        trace = sample(denoise, way, self.path, times, z, noise, told.clean, told.fixed, last, logits=False)
        final = trace.beliefs[-1]._replace(mean=trace.z)
        parts = (trace.states[-1], trace.times[-1], final, self.path, self.codec, self.twin, told)
        ids = self.readout.tokens(*parts)  # few logits at a time
        return Sample(ids if prompt is None else prompt.settle(ids), trace)
