"""Benchmark of encoder, loss and gradients of a training step."""

import torch
from torch import Tensor

from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.reference.elf import reference_elf_loss

from .benchmark import Benchmark, flat_gradients, make_t5, network_pair, random_batch
from .flops import Flops
from .sizes import BenchConfig


class LossStepBenchmark(Benchmark):
    """Training step of a teacher; the published reference runs three passes on all rows and logits of all tokens."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        if config.bf16:
            self.variants = ("optimized", "reference", "reference fp32")
        self.codec, self.nets, self.batch = make_t5(config), network_pair(config), random_batch(config)
        self.objective, self.path = ELFObjective(row_assignment="stratified"), LinearPath()
        s = config.size
        self.draws = self.objective.sample_draws(torch.zeros(s.rows, s.length, s.dim, device=config.device))

    def run(self, variant: str) -> None:
        net = self.net(variant)
        net.zero_grad()
        with self.autocast(variant):
            with torch.no_grad():
                x = self.codec.encode(self.batch.ids, self.batch.mask)
            parts = (net, self.path, x, self.batch, self.draws)
            optimized = variant == "optimized"
            losses = self.objective.loss(*parts) if optimized else reference_elf_loss(self.objective, *parts)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def net(self, variant: str) -> ELF:
        """Network of a variant."""
        return self.nets["optimized" if variant == "optimized" else "reference"]

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return flat_gradients(self.net(variant))

    def flops(self, variant: str) -> float:
        return Flops(self.config.size).training_step("optimized" if variant == "optimized" else "reference")
