"""Texts: what a generator writes, out of nothing or around what is given."""

from abc import ABC

import torch

from textflow.codecs.prefix_mask import sight
from textflow.escapes import Escape
from textflow.models.generation import write
from textflow.models.sampling import Sampling
from textflow.samplers import Sampler
from textflow.samplers.prompt import Prompt
from textflow.schedules import Clock
from textflow.types import Ids, Mask


class Texts(Sampling, ABC):
    """Sampling between tokens and tokens."""

    prompt_guidance: float | None

    @torch.no_grad()
    def prompt(self, ids: Ids, fixed: Mask, scale: float | None = None) -> Prompt:
        """What is given, encoded as it is seen: by itself alone.

        Args:
            ids: rows of a sample's length.
            fixed: True on what is given; a run that was trained on pairs takes what comes first.
            scale: of classifier-free guidance; default: the recipe's. 1 is none.
        """
        trained = self.given is not None
        if scale is not None and not trained:
            raise ValueError(
                f"the prompt's guidance is {scale}, but this run was not trained on prompts (data.given): leave it out"
            )
        scale = (self.prompt_guidance or 1.0) if scale is None else scale
        clean = self.codec.encode(ids, sight(fixed, fixed))
        return Prompt(clean, fixed, scale if trained else 1.0, ids, trained)

    def complete(
        self,
        ids: Ids,
        fixed: Mask,
        seeds: list[int],
        steps: int = 32,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        scale: float | None = None,
        escape: Escape | None = None,
        grid: Clock | None = None,
    ) -> Ids:
        """ids with what was not given filled in, one sample a row. What is given comes back exactly.

        Args:
            ids: rows of a sample's length.
            fixed: True on what is given.
            seeds: one a row.
            steps: of the grid.
            sampler: default: the recipe's.
            guidance: scale w; default: the recipe's.
            scale: of classifier-free guidance by the prompt; default: the recipe's.
            escape: default: the recipe's.
            grid: of the times; default: the recipe's.
        """
        prompt = self.prompt(ids.to(self.device), fixed.to(self.device), scale)
        return self.sample(seeds, steps, sampler, guidance, None, escape, grid, prompt).ids

    def generate(
        self,
        n: int = 1,
        steps: int = 32,
        seed: int = 0,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        length: int | None = None,
        batch_size: int = 64,
        first: int = 0,
        escape: Escape | None = None,
        grid: Clock | None = None,
    ) -> list[str]:
        """Texts. Sample i depends on the weights, the sampler, seed and i alone.

        Args:
            n: number of texts.
            steps: of the grid.
            seed: of the run.
            sampler: default: the recipe's.
            guidance: scale w; default: the recipe's.
            length: tokens; default: the length of training.
            batch_size: texts at a time.
            first: number of the first sample.
            escape: default: the recipe's.
            grid: of the times; default: the recipe's.
        """

        def make(seeds: list[int]) -> Ids:
            return self.sample(seeds, steps, sampler, guidance, length, escape, grid).ids

        return write(make, self.tokenizer, n, seed, batch_size, first)
