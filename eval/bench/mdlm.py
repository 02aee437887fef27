"""Benchmark of MDLM with logits at masked positions alone, against logits of all positions."""

import torch
from torch import Tensor

from textflow.discrete import MDLMObjective, TokenDiT
from textflow.discrete.mdlm import MaskDraws
from textflow.reference.mdlm import reference_mdlm_loss
from textflow.types import Batch

from .benchmark import Benchmark, fill_zero_weights, flat_gradients, random_batch
from .flops import transformer_blocks, vocabulary_product
from .sizes import BenchConfig


class MDLMStepBenchmark(Benchmark):
    """Loss and gradients of a training step; the last token of the vocabulary is the mask."""

    all_logits = True

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s = config.size
        batch = random_batch(config)
        self.batch, self.objective = Batch(batch.ids.clamp_max(s.vocab - 2), batch.mask), MDLMObjective()
        rows, tokens = (torch.rand(*shape, dtype=torch.float64) for shape in ((s.rows,), (s.rows, s.length)))
        times = self.objective.sample_times(rows)
        self.masked = float((tokens < 1 - self.objective.process.survival(times)[:, None]).double().mean())
        self.draws = MaskDraws(times.to(config.device), tokens.to(config.device))
        torch.manual_seed(1)
        net = TokenDiT(s.vocab, s.width, s.depth, s.heads, dropout=0.0)
        self.net = fill_zero_weights(net).to(config.device)

    def run(self, variant: str) -> None:
        self.net.zero_grad()
        with self.autocast(variant):
            if variant == "optimized":
                losses = self.objective.loss(self.net, self.batch, self.draws)
            else:
                losses = reference_mdlm_loss(self.objective, self.net, self.batch, self.draws)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return flat_gradients(self.net)

    def flops(self, variant: str) -> float:
        s = self.config.size
        share = self.masked if variant == "optimized" else 1.0
        return 3 * (transformer_blocks(s) + share * vocabulary_product(s))
