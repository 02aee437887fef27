"""Benchmark of Duo with logits and the bound of some positions at a time, against those of all positions at once."""

import torch
from torch import Tensor

from textflow.discrete import DuoObjective, TokenDiT
from textflow.reference.duo import reference_duo_loss

from .benchmark import Benchmark, fill_zero_weights, flat_gradients, random_batch
from .flops import transformer_blocks, vocabulary_product
from .sizes import BenchConfig


class DuoStepBenchmark(Benchmark):
    """Loss and gradients of a training step after the curriculum, on rows without padding. Uniform noise does not mark
    the tokens that it replaced, so both forms compute the logits of all positions, and the FLOPs are equal."""

    all_logits = True

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s = config.size
        self.batch, self.objective = random_batch(config), DuoObjective(curriculum_steps=0)
        times = self.objective.sample_times(torch.rand(s.rows, dtype=torch.float64)).to(config.device)
        uniform = torch.rand(s.rows, s.length, dtype=torch.float64).to(config.device)
        stationary = self.objective.process.stationary(self.batch.ids, s.vocab)
        self.noisy = self.objective.corrupt(self.batch.ids, times, uniform, stationary)
        torch.manual_seed(1)
        self.net = fill_zero_weights(TokenDiT(s.vocab, s.width, s.depth, s.heads, dropout=0.0)).to(config.device)

    def run(self, variant: str) -> None:
        self.net.zero_grad()
        with self.autocast(variant):
            if variant == "optimized":
                losses = self.objective.loss(self.net, self.batch, self.noisy)
            else:
                losses = reference_duo_loss(self.objective, self.net, self.batch, self.noisy)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return flat_gradients(self.net)

    def flops(self, variant: str) -> float:
        return 3 * (transformer_blocks(self.config.size) + vocabulary_product(self.config.size))
