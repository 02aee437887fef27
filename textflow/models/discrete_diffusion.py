"""Masked: a discrete diffusion model over tokens, the baseline that unmasks text (MDLM)."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.discrete.mdlm import MDLM, subs
from textflow.discrete.objective import SUBS
from textflow.discrete.sampler import Unmask
from textflow.models.base import Trainable
from textflow.models.generation import write
from textflow.models.infilling import shown
from textflow.noise import Noise
from textflow.samplers import Sampler
from textflow.schedules import Clock, Uniform
from textflow.training import Warmup
from textflow.types import Batch, Ids, Logits, Mask


class Masked(Trainable):
    """Masks -> text, token by token and many at a time.

    Args:
        vocab: number of tokens (from the tokenizer).
        net: tokens, some masked -> logits; made from vocab.
        objective: what the net is trained for.
        sampler: how masks become tokens.
        grid: times of sampling.
        optimizer: from pairs (name, parameter).
        schedule: of the learning rate, by optimizer steps.
        ema: decay of the averaged weights, in [0, 1).
    """

    net: MDLM
    twin: MDLM

    def __init__(
        self,
        vocab: int,
        net: Callable[[int], MDLM],
        objective: SUBS = SUBS(),
        sampler: Unmask = Unmask(),
        grid: Clock = Uniform(),
        optimizer: Callable[[Any], Optimizer] = lambda params: AdamW(params, lr=3e-4, weight_decay=0.0),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: Warmup(optimizer, steps=2500),
        ema: float = 0.9999,
    ) -> None:
        super().__init__(optimizer, schedule, ema)
        self.average(net(vocab))
        self.objective, self.sampler, self.grid = objective, sampler, grid

    def losses(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        return self.objective(net, batch)

    def predict(self, ids: Ids, t: float) -> Logits:
        """log p(text | tokens) of the averaged net, which is one-hot where nothing is masked.

        Args:
            ids: tokens, some masked.
            t: 0 where all are masked, 1 where none is.
        """
        return subs(self.twin.logits(self.see(ids, t)), ids, self.twin.mask)

    def see(self, ids: Ids, t: float) -> Float[Tensor, "B L width"]:
        """Hidden states of the averaged net."""
        time = torch.full((len(ids),), t, dtype=torch.float64, device=ids.device)
        return self.twin(ids, self.objective.told(time))

    @torch.no_grad()
    def sample(
        self,
        seeds: list[int],
        steps: int = 32,
        sampler: Unmask | Sampler | None = None,
        length: int | None = None,
        grid: Clock | None = None,
        ids: Ids | None = None,
    ) -> Ids:
        """ids [B, L], one sample a seed.

        Args:
            seeds: one a sample.
            steps: of the grid; network passes a text are at most steps + 1.
            sampler: default: the recipe's.
            length: tokens; default: the length of training.
            grid: of the times; default: the recipe's.
            ids: begin as these, masks where nothing is given; default: all masks.
        """
        self.eval()
        chosen, times = sampler or self.sampler, (grid or self.grid).grid(steps)
        if not isinstance(chosen, Unmask):
            raise ValueError(f"a masked model samples by Unmask, not by {type(chosen).__name__}; use --sampler recipe")
        if ids is None:
            length = self.length if length is None else length
            ids = torch.full((len(seeds), length), self.twin.mask, device=self.device)
        net, timed = self.twin, self.objective.timed
        return chosen.sample(self.see, net.logits, ids, net.mask, times, Noise(seeds), timed)

    @torch.no_grad()
    def complete(
        self,
        ids: Ids,
        fixed: Mask,
        seeds: list[int],
        steps: int = 32,
        sampler: Unmask | Sampler | None = None,
        guidance: float | None = None,
        scale: float | None = None,
        grid: Clock | None = None,
    ) -> Ids:
        """ids with masks in place of what is not given, unmasked: exactly the model's own conditional law.

        Args:
            ids: rows of a sample's length.
            fixed: True on what is given.
            seeds: one a row.
            steps: of the grid.
            sampler: default: the recipe's.
            guidance: must be left out: nothing guides a masked model.
            scale: must be left out, likewise.
            grid: of the times; default: the recipe's.
        """
        if guidance is not None or scale is not None:
            raise ValueError("a masked model has no guidance scale; leave it out")
        return self.sample(seeds, steps, sampler, None, grid, ids.masked_fill(~fixed, self.twin.mask).to(self.device))

    def generate(
        self,
        n: int = 1,
        steps: int = 32,
        seed: int = 0,
        sampler: Unmask | Sampler | None = None,
        guidance: float | None = None,
        length: int | None = None,
        batch_size: int = 64,
        first: int = 0,
        grid: Clock | None = None,
    ) -> list[str]:
        """Texts. Sample i depends on the weights, the sampler, seed and i alone.

        Args:
            n: number of texts.
            steps: of the grid.
            seed: of the run.
            sampler: default: the recipe's.
            guidance: must be left out: nothing guides a masked model.
            length: tokens; default: the length of training.
            batch_size: texts at a time.
            first: number of the first sample.
            grid: of the times; default: the recipe's.
        """
        if guidance is not None:
            raise ValueError(f"guidance is {guidance}, but a masked model has no guidance scale; leave it out")

        def make(seeds: list[int]) -> Ids:
            return self.sample(seeds, steps, sampler, length, grid)

        return write(make, self.tokenizer, n, seed, batch_size, first)

    def sample_texts(self, n: int) -> list[str]:
        """Texts to look at during training."""
        return shown(self, n)
